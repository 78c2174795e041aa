#define _GNU_SOURCE
#include "queue_worker.h"
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

struct corral_worker_thread {
    struct corral_worker_thread *next;
    struct corral_queue_worker *worker;
    const char *name;
    int (*prepare)(void *);
    void (*serve)(void *);
    void *argument;
    pthread_t thread;
    int error; /* of its preparation */
};

uint64_t corral_worker_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

int corral_worker_init(struct corral_queue_worker *w, enum corral_jail_kind kind,
                       const struct corral_worker_config *config, const struct corral_ram *ram,
                       struct corral_virtio_irq *irq)
{
    *w = (struct corral_queue_worker){.kind = kind, .config = *config, .ram = ram, .irq = irq};
    w->config.name[sizeof w->config.name - 1] = 0;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->wake_fd < 0 ? -errno : 0;
}

void corral_worker_destroy(struct corral_queue_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    while (w->threads) {
        struct corral_worker_thread *t = w->threads;
        w->threads = t->next;
        pthread_join(t->thread, NULL);
        free(t);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    w->wake_fd = -1;
}

/* --- threads --- */

bool corral_worker_cpus(const struct corral_queue_worker *w, cpu_set_t *cpus)
{
    _Static_assert(sizeof w->config.cpus == sizeof *cpus, "a bit for each CPU that the C library knows");
    memcpy(cpus, w->config.cpus, sizeof *cpus);
    return CPU_COUNT(cpus);
}

/* Under the lock. */
static void is_idle(struct corral_queue_worker *w)
{
    if (!--w->busy)
        pthread_cond_broadcast(&w->changed);
}

static void *live(void *argument)
{
    struct corral_worker_thread *t = argument;
    struct corral_queue_worker *w = t->worker;
    unsigned served = 0; /* of w->starts, which is 0 while threads are added */
    corral_name_thread(t->name ? t->name : w->config.name);
    t->error = t->prepare ? t->prepare(t->argument) : 0;
    pthread_mutex_lock(&w->lock);
    is_idle(w);
    while (!t->error) {
        while (served == w->starts && !w->quit)
            pthread_cond_wait(&w->changed, &w->lock);
        if (w->quit)
            break;
        served = w->starts;
        pthread_mutex_unlock(&w->lock);
        corral_jail_enter_or_end(w->kind);
        t->serve(t->argument);
        pthread_mutex_lock(&w->lock);
        is_idle(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int corral_worker_add_thread(struct corral_queue_worker *w, const char *name, int (*prepare)(void *),
                             void (*serve)(void *), void *argument)
{
    struct corral_worker_thread *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = (struct corral_worker_thread){w->threads, w, name, prepare, serve, argument, .error = 0};
    cpu_set_t cpus;
    w->busy = 1;
    int error = corral_thread_start(&t->thread, corral_worker_cpus(w, &cpus) ? &cpus : NULL, live, t);
    if (error) {
        w->busy = 0;
        free(t);
        return error;
    }
    pthread_mutex_lock(&w->lock);
    while (w->busy)
        pthread_cond_wait(&w->changed, &w->lock);
    error = t->error;
    pthread_mutex_unlock(&w->lock);
    if (error) {
        pthread_join(t->thread, NULL);
        free(t);
    } else {
        w->threads = t;
    }
    return error;
}

/* --- start --- */

int corral_worker_begin(struct corral_queue_worker *w, uint64_t features)
{
    if (corral_worker_running(w))
        return -EBUSY;
    eventfd_t ignored;
    eventfd_read(w->wake_fd, &ignored); /* of the last stop */
    w->features = features;
    w->n_queues = 0;
    w->failed = w->stopping = w->held = false;
    return 0;
}

int corral_worker_queue(struct corral_queue_worker *w, struct corral_served_queue *q,
                        const struct corral_virtq_setup *setup, int doorbell)
{
    q->ready = false;
    q->index = w->n_queues;
    q->doorbell = doorbell;
    if (setup->ready) {
        int error = corral_virtq_init(&q->vq, w->ram, setup->size, setup->desc, setup->avail, setup->used,
                                      w->features >> VIRTIO_RING_F_EVENT_IDX & 1,
                                      w->features >> VIRTIO_RING_F_INDIRECT_DESC & 1);
        if (error < 0)
            return error;
        q->ready = true;
    }
    w->queues[w->n_queues++] = q;
    return 0;
}

void corral_worker_resume(struct corral_queue_worker *w)
{
    for (unsigned i = 0; i < w->n_queues; i++)
        if (w->queues[i]->ready)
            corral_virtq_resume(&w->queues[i]->vq);
}

void corral_worker_serve(struct corral_queue_worker *w)
{
    pthread_mutex_lock(&w->lock);
    __atomic_store_n(&w->running, true, __ATOMIC_SEQ_CST);
    w->starts++;
    for (const struct corral_worker_thread *t = w->threads; t; t = t->next)
        w->busy++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool corral_worker_running(const struct corral_queue_worker *w)
{
    return __atomic_load_n(&w->running, __ATOMIC_SEQ_CST);
}

/* --- stop --- */

void corral_worker_request_stop(struct corral_queue_worker *w)
{
    if (!corral_worker_running(w) || corral_worker_stopping(w))
        return;
    w->stop_by = corral_worker_now() + CORRAL_WORKER_STOP_NS;
    __atomic_store_n(&w->stopping, true, __ATOMIC_SEQ_CST);
    eventfd_write(w->wake_fd, 1);
}

bool corral_worker_stopping(const struct corral_queue_worker *w)
{
    return __atomic_load_n(&w->stopping, __ATOMIC_SEQ_CST);
}

/* Under the lock, until none of them serves, or, if that will do, nothing is in flight. False: it is `by`, in ns.
 */
static bool wait_for_threads(struct corral_queue_worker *w, uint64_t by, bool or_idle)
{
    const struct timespec end = {by / SECOND, by % SECOND};
    int error = 0;
    while (w->busy && !(or_idle && w->idle) && !error)
        error = pthread_cond_clockwait(&w->changed, &w->lock, CLOCK_MONOTONIC, &end);
    return !error;
}

int corral_worker_stop(struct corral_queue_worker *w)
{
    corral_worker_request_stop(w);
    if (!corral_worker_running(w))
        return 0;
    pthread_mutex_lock(&w->lock);
    bool over = wait_for_threads(w, w->stop_by, false);
    pthread_mutex_unlock(&w->lock);
    if (!over)
        return -ETIMEDOUT;
    __atomic_store_n(&w->running, false, __ATOMIC_SEQ_CST);
    return 0;
}

/* --- hold --- */

bool corral_worker_held(const struct corral_queue_worker *w)
{
    return __atomic_load_n(&w->held, __ATOMIC_SEQ_CST);
}

void corral_worker_is_idle(struct corral_queue_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->idle = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

int corral_worker_hold(struct corral_queue_worker *w)
{
    if (!corral_worker_running(w) || corral_worker_stopping(w))
        return 0;
    pthread_mutex_lock(&w->lock);
    w->idle = false;
    __atomic_store_n(&w->held, true, __ATOMIC_SEQ_CST);
    corral_worker_wake(w);
    bool idle = wait_for_threads(w, corral_worker_now() + CORRAL_WORKER_HOLD_NS, true);
    if (!idle)
        __atomic_store_n(&w->held, false, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&w->lock);
    return idle ? 0 : -ETIMEDOUT;
}

/* --- for its threads --- */

void corral_worker_wake(struct corral_queue_worker *w)
{
    eventfd_write(w->wake_fd, 1);
}

void corral_worker_wait(struct corral_queue_worker *w, struct pollfd *extra, unsigned n_extra)
{
    struct pollfd on[1 + CORRAL_VIRTIO_QUEUES_MAX + CORRAL_WORKER_EXTRA] = {{.fd = w->wake_fd, .events = POLLIN}};
    unsigned n = 1;
    for (unsigned i = 0; i < w->n_queues; i++) {
        const struct corral_served_queue *q = w->queues[i];
        if (q->ready && !q->vq.broken && on[n - 1].fd != q->doorbell)
            on[n++] = (struct pollfd){.fd = q->doorbell, .events = POLLIN};
    }
    unsigned doorbells = n;
    if (n_extra)
        memcpy(on + n, extra, n_extra * sizeof *extra);
    if (ppoll(on, n + n_extra, NULL, NULL) < 0) /* signals are blocked: there was no memory */
        return;
    eventfd_t ignored;
    for (unsigned i = 0; i < doorbells; i++) /* a stop is told by `stopping`, which was set before */
        if (on[i].revents)
            eventfd_read(on[i].fd, &ignored);
    if (n_extra)
        memcpy(extra, on + n, n_extra * sizeof *extra);
}

void corral_worker_sleep(struct corral_queue_worker *w, uint64_t ns)
{
    struct pollfd wake = {.fd = w->wake_fd, .events = POLLIN};
    struct timespec timeout = {ns / SECOND, ns % SECOND};
    eventfd_t ignored;
    if (ppoll(&wake, 1, &timeout, NULL) > 0)
        eventfd_read(w->wake_fd, &ignored);
}

bool corral_worker_tell(struct corral_queue_worker *w, struct corral_served_queue *q)
{
    if (!corral_virtq_tell(&q->vq))
        return false;
    corral_virtio_irq_used(w->irq, q->index);
    return true;
}

void corral_worker_break(struct corral_queue_worker *w)
{
    if (__atomic_exchange_n(&w->failed, true, __ATOMIC_SEQ_CST))
        return;
    if (w->config.broken_fd >= 0)
        eventfd_write(w->config.broken_fd, 1);
    corral_virtio_irq_config(w->irq);
}

bool corral_worker_failed(const struct corral_queue_worker *w)
{
    return __atomic_load_n(&w->failed, __ATOMIC_SEQ_CST);
}
