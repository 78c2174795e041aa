/* The engine that runs everywhere: one thread takes requests off the queues, a few others make their calls. And
 * the engine that makes none, which is the first of these threads alone. */
#define _GNU_SOURCE
#include "blk_device.h"
#include "vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREADS 4
#define THREADS_MAX 64

struct pool {
    pthread_t dispatcher;
    unsigned n_threads;
    pthread_t threads[THREADS_MAX];
    pthread_mutex_t lock; /* all below */
    pthread_cond_t work, idle;
    struct corral_blk_request *first, **last;
    unsigned in_flight; /* taken and not yet finished */
    bool quit;
};

/* --- the callers --- */

static int64_t make(struct corral_blk *b, const struct corral_blk_call *c)
{
    int fd = b->files[c->file];
    int64_t result = -1;
    switch (c->op) {
    case CORRAL_BLK_READ:
        result = preadv(fd, c->iov, c->n_iov, c->offset);
        break;
    case CORRAL_BLK_WRITE:
        result = pwritev2(fd, c->iov, c->n_iov, c->offset, c->flags);
        break;
    case CORRAL_BLK_SYNC:
        result = fdatasync(fd);
        break;
    case CORRAL_BLK_ALLOCATE:
        result = fallocate(fd, c->flags, c->offset, c->length);
        break;
    }
    return result < 0 ? -errno : result;
}

static void finish(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_blk_queue *q = r->queue;
    uint64_t now = corral_blk_now();
    pthread_mutex_lock(&q->lock);
    corral_blk_finish(r, now);
    corral_blk_publish(q);
    corral_blk_tell(b, q);
    pthread_mutex_unlock(&q->lock);
}

/* True: the request is finished. */
static bool go_on(struct corral_blk *b, struct corral_blk_request *r)
{
    for (;;) {
        switch (corral_blk_step(b, r)) {
        case CORRAL_BLK_DONE:
            finish(b, r);
            return true;
        case CORRAL_BLK_PARKED:
            return false;
        case CORRAL_BLK_CALL:;
            int64_t result = corral_blk_before_call(b, r);
            if (!result)
                result = make(b, &r->call);
            corral_blk_measure(b);
            corral_blk_result(b, r, result);
        }
    }
}

static void *call_in_turn(void *argument)
{
    struct corral_blk *b = argument;
    struct pool *p = b->worker;
    corral_name_thread(b->config.name);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct corral_blk_request *r = p->first;
        if (!r && p->quit)
            break;
        if (!r) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        p->first = r->next;
        if (!p->first)
            p->last = &p->first;
        pthread_mutex_unlock(&p->lock);
        bool finished = go_on(b, r);
        pthread_mutex_lock(&p->lock);
        if (finished && !--p->in_flight)
            pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_submit(struct corral_blk *b, struct corral_blk_request *r)
{
    struct pool *p = b->worker;
    pthread_mutex_lock(&p->lock);
    r->next = NULL;
    *p->last = r;
    p->last = &r->next;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

/* --- the dispatcher --- */

/* Takes what queue q has, as far as the limits let it. False: there was nothing. */
static bool drain(struct corral_blk *b, struct corral_blk_queue *q)
{
    struct pool *p = b->worker;
    struct corral_blk_request *r;
    uint64_t now = corral_blk_now();
    unsigned n = 0;
    while (n < q->vq.size && !corral_blk_held_back(b, now) && corral_blk_take(b, q, now, &r) > 0) {
        n++;
        if (!b->shared) {
            corral_blk_finish(r, now);
            continue;
        }
        pthread_mutex_lock(&p->lock);
        p->in_flight++;
        pthread_mutex_unlock(&p->lock);
        pool_submit(b, r);
    }
    if (!b->shared) {
        corral_blk_publish(q);
        corral_blk_tell(b, q);
    }
    q->stats.rounds += n != 0;
    return n;
}

/* Waits for a doorbell, a limit or a stop. */
static void sleep_until_kicked(struct corral_blk *b, uint64_t held_back)
{
    struct pollfd fds[CORRAL_BLK_QUEUES_MAX + 1] = {{.fd = b->stop_fd, .events = POLLIN}};
    unsigned n = 1;
    /* While the limits hold everything back, doorbells are no news. */
    for (unsigned i = 0; i < b->config.n_queues && !held_back; i++)
        if (b->queues[i].ready && !b->queues[i].vq.broken)
            fds[n++] = (struct pollfd){.fd = b->queues[i].kick_fd, .events = POLLIN};
    struct timespec timeout = {held_back / 1000000000, held_back % 1000000000};
    if (ppoll(fds, n, held_back ? &timeout : NULL, NULL) < 0)
        return;
    eventfd_t ignored;
    for (unsigned i = 1; i < n; i++)
        if (fds[i].revents)
            eventfd_read(fds[i].fd, &ignored);
}

static void *dispatch(void *argument)
{
    struct corral_blk *b = argument;
    corral_name_thread(b->config.name);
    while (!corral_blk_stopping(b)) {
        bool some = false;
        for (unsigned i = 0; i < b->config.n_queues; i++) {
            struct corral_blk_queue *q = &b->queues[i];
            if (!q->ready || q->vq.broken)
                continue;
            corral_virtq_ignore(&q->vq);
            some |= drain(b, q);
        }
        uint64_t held_back = corral_blk_held_back(b, corral_blk_now());
        if (held_back || (!some && !corral_blk_listen(b)))
            sleep_until_kicked(b, held_back);
    }
    return NULL;
}

/* --- start and stop --- */

static void end(struct corral_blk *b)
{
    struct pool *p = b->worker;
    pthread_mutex_lock(&p->lock);
    while (p->in_flight)
        pthread_cond_wait(&p->idle, &p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->idle);
    free(p);
    b->worker = NULL;
}

static int start(struct corral_blk *b, unsigned n_threads)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->last = &p->first;
    b->worker = p;
    b->shared = n_threads;
    int error = 0;
    while (!error && p->n_threads < n_threads) {
        error = corral_blk_thread(b, &p->threads[p->n_threads], call_in_turn, b);
        p->n_threads += !error;
    }
    if (!error)
        error = corral_blk_thread(b, &p->dispatcher, dispatch, b);
    if (error)
        end(b);
    return error;
}

static int threads_start(struct corral_blk *b)
{
    unsigned n = b->config.n_threads ? b->config.n_threads : THREADS;
    return start(b, n < THREADS_MAX ? n : THREADS_MAX);
}

static int null_start(struct corral_blk *b)
{
    return start(b, 0);
}

static void stop(struct corral_blk *b)
{
    struct pool *p = b->worker;
    pthread_join(p->dispatcher, NULL);
    end(b);
}

const struct corral_blk_engine corral_blk_threads = {threads_start, stop, pool_submit};
const struct corral_blk_engine corral_blk_null = {null_start, stop, pool_submit};
