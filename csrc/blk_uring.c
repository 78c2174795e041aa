/* The io_uring engine: one thread a disk, which waits for doorbells and for its calls in the same place, and makes
 * all calls of a round with one system call.
 *
 * Doorbells are multishot polls of the eventfds. Nobody reads those: each signal is an edge, and an edge is
 * enough, since a round looks at all queues. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>

#ifdef CORRAL_HAVE_URING

#include "blk_uring.h"
#include "vcpu.h"

#include <poll.h>
#include <stdlib.h>

/* user_data of what is not a request; those are pointers, and even. */
#define TAG_STOP 1
#define TAG_QUEUE(i) (((uint64_t)(i) << 2) | 3)

static int set_up(struct io_uring *ring, unsigned entries, unsigned cq_entries)
{
    /* The newest way that the host knows of finishing calls only when we ask for it. The flag has io_uring_submit
     * ask as well, so that a guest which never pauses does not keep what is finished from being seen. */
    static const unsigned flags[] = {
#ifdef IORING_SETUP_DEFER_TASKRUN
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* Linux 6.1 */
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 5.19 */
#endif
        0};
    int error = -ENOSYS;
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct io_uring_params p = {.flags = flags[i] | IORING_SETUP_CQSIZE, .cq_entries = cq_entries};
        error = io_uring_queue_init_params(entries, ring, &p);
        if (error == -EINVAL)
            continue;
        /* Multishot polls came with Linux 5.13, and so did this. */
        if (!error && !(p.features & IORING_FEAT_RSRC_TAGS)) {
            io_uring_queue_exit(ring);
            return -ENOSYS;
        }
        break;
    }
    return error;
}

int corral_blk_uring_probe(void)
{
    struct io_uring ring;
    if (set_up(&ring, 4, 8) < 0)
        return -ENOSYS;
    io_uring_queue_exit(&ring);
    return 0;
}

bool corral_blk_has_uring(void)
{
    return true;
}

static void watch(struct corral_uring *u, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = corral_uring_sqe(u);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    sqe->user_data = tag;
}

static void uring_submit(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_uring *u = b->worker;
    r->next = NULL;
    *u->last = r;
    u->last = &r->next;
}

/* Takes what is finished, by the kernel or here. */
static bool reap(struct corral_uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0, finished = io_uring_cq_ready(&u->ring);
    u->now = corral_blk_now();
    if (u->made || finished)
        corral_blk_measure(u->b); /* after all that is taken now */
    bool some = corral_uring_reap_made(u);
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (n == finished)
            break;
        n++;
        uint64_t tag = cqe->user_data;
        if (tag == LIBURING_UDATA_TIMEOUT)
            continue;
        if (!(tag & 1)) {
            corral_uring_result(u, (void *)(uintptr_t)tag, cqe->res);
        } else if (!(cqe->flags & IORING_CQE_F_MORE) && cqe->res >= 0) {
            watch(u, tag == TAG_STOP ? u->b->stop_fd : u->b->queues[tag >> 2].kick_fd, tag);
        }
    }
    io_uring_cq_advance(&u->ring, n);
    return some || n;
}

static bool resume(struct corral_uring *u)
{
    struct corral_blk_request *r = u->ready;
    u->ready = NULL;
    u->last = &u->ready;
    bool some = r;
    while (r) {
        struct corral_blk_request *next = r->next;
        corral_uring_go_on(u, r);
        r = next;
    }
    return some;
}

/* Takes what the guest has added, as far as the limits let it. */
static bool take(struct corral_uring *u)
{
    struct corral_blk *b = u->b;
    unsigned taken = 0;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        struct corral_blk_queue *q = &b->queues[i];
        struct corral_blk_request *r;
        if (!q->ready || q->vq.broken)
            continue;
        corral_virtq_ignore(&q->vq);
        unsigned n = 0;
        while (n < CORRAL_URING_ENTRIES && !corral_uring_round_is_full(u) && !corral_blk_held_back(b, u->now) &&
               corral_blk_take(b, q, u->now, &r) > 0) {
            u->in_flight++;
            n++;
            corral_uring_go_on(u, r);
        }
        q->stats.rounds += n != 0;
        taken += n;
    }
    if (taken)
        corral_uring_learn_gap(u, taken);
    return taken;
}

static void sleep_until_news(struct corral_uring *u, uint64_t held_back)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {held_back / 1000000000, held_back % 1000000000};
    if (held_back)
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
    else
        io_uring_submit_and_wait(&u->ring, 1);
}

static void serve(struct corral_uring *u)
{
    struct corral_blk *b = u->b;
    for (;;) {
        bool stopping = corral_blk_stopping(b);
        bool some = reap(u);
        some |= resume(u);
        corral_uring_publish(u);
        if (stopping && !u->in_flight) {
            corral_uring_tell(u);
            return;
        }
        if (corral_uring_is_late(u))
            corral_uring_tell(u);
        if (!stopping)
            some |= take(u);
        corral_uring_end_run(u);
        if (io_uring_sq_ready(&u->ring)) {
            /* Reads that the page cache has are finished by this. */
            corral_uring_submit(u);
            continue;
        }
        if (u->made)
            continue;
        corral_uring_publish(u);
        uint64_t held_back = stopping ? 0 : corral_blk_held_back(b, corral_blk_now());
        /* Not while the host is at work for us: that takes as long as it takes. */
        bool idle = !u->in_flight && !held_back && !stopping;
        if (idle && corral_uring_hold(u))
            continue;
        corral_uring_tell(u);
        if (idle && !some)
            some = corral_uring_spin(u);
        if (some || u->ready || (!stopping && !held_back && corral_blk_listen(b)))
            continue;
        sleep_until_news(u, held_back);
    }
}

static int prepare(struct corral_uring *u)
{
    struct corral_blk *b = u->b;
    unsigned in_flight = CORRAL_URING_ENTRIES;
    for (unsigned i = 0; i < b->config.n_queues; i++)
        in_flight += b->queues[i].ready ? b->queues[i].vq.size : 0;
    /* More than this is kept by the kernel until there is room (IORING_FEAT_NODROP). */
    int error = set_up(&u->ring, CORRAL_URING_ENTRIES, in_flight < 16384 ? 2 * in_flight : 32768);
    if (error < 0)
        return error;
    error = io_uring_register_files(&u->ring, b->files, CORRAL_BLK_FILES);
    if (error < 0) {
        io_uring_queue_exit(&u->ring);
        return error;
    }
    cpu_set_t cpus;
    if (corral_blk_cpus(b, &cpus))
        io_uring_register_iowq_aff(&u->ring, sizeof cpus,
                                   &cpus); /* Linux 5.14; without, they run where they like */
    watch(u, b->stop_fd, TAG_STOP);
    for (unsigned i = 0; i < b->config.n_queues; i++)
        if (b->queues[i].ready)
            watch(u, b->queues[i].kick_fd, TAG_QUEUE(i));
    return 0;
}

static void *work(void *argument)
{
    struct corral_uring *u = argument;
    corral_name_thread(u->b->config.name);
    int error = prepare(u); /* here: a ring may belong to the thread that made it */
    pthread_mutex_lock(&u->lock);
    u->started = error;
    pthread_cond_signal(&u->has_started);
    pthread_mutex_unlock(&u->lock);
    if (error < 0)
        return NULL;
    serve(u);
    io_uring_queue_exit(&u->ring);
    return NULL;
}

static void stop(struct corral_blk *b)
{
    struct corral_uring *u = b->worker;
    pthread_join(u->thread, NULL);
    pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->has_started);
    free(u);
    b->worker = NULL;
}

static int start(struct corral_blk *b)
{
    struct corral_uring *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->b = b;
    u->last = &u->ready;
    u->made_last = &u->made;
    u->started = 1;
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->has_started, NULL);
    b->worker = u;
    int error = corral_blk_thread(b, &u->thread, work, u);
    if (error < 0) {
        free(u);
        return error;
    }
    pthread_mutex_lock(&u->lock);
    while (u->started == 1)
        pthread_cond_wait(&u->has_started, &u->lock);
    error = u->started;
    pthread_mutex_unlock(&u->lock);
    if (error < 0)
        stop(b);
    return error;
}

const struct corral_blk_engine corral_blk_uring = {start, stop, uring_submit};

#else /* built where liburing is missing */

int corral_blk_uring_probe(void)
{
    return -ENOSYS;
}

bool corral_blk_has_uring(void)
{
    return false;
}

const struct corral_blk_engine corral_blk_uring = {0};

#endif
