/* The io_uring engine: one thread a disk, which waits for doorbells and for its calls in the same place, and makes
 * all calls of a round with one system call.
 *
 * Doorbells are multishot polls of the eventfds. They are not read: each signal is an edge, and an edge is enough,
 * since a round looks at all queues.
 *
 * The ring takes the operations below and no others, and what is registered with it stays. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>

#ifdef CORRAL_HAVE_URING

#include "blk_uring.h"

#include <poll.h>
#include <stdlib.h>

/* user_data of what is not a request; those are pointers, and even. */
#define TAG_STOP 1
#define TAG_CANCEL 5
#define TAG_QUEUE(i) (((uint64_t)(i) << 2) | 3)

/* ns that a stop lets calls come to their end before it takes them back. */
#define GRACE (CORRAL_WORKER_STOP_NS / 2)

static const uint8_t operations[] = {IORING_OP_READ,     IORING_OP_READV,       IORING_OP_WRITE,
                                     IORING_OP_WRITEV,   IORING_OP_FSYNC,       IORING_OP_FALLOCATE,
                                     IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL};
#define N_OPERATIONS (sizeof operations / sizeof *operations)

/* A ring that takes nothing yet. */
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
        struct io_uring_params p = {.flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
                                    .cq_entries = cq_entries};
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

/* Has it take `operations` from now on, on files by number or descriptor, and no other call of io_uring_register.
 */
static int enable(struct io_uring *ring)
{
    struct io_uring_restriction allowed[N_OPERATIONS + 1] = {
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE}};
    for (unsigned i = 0; i < N_OPERATIONS; i++)
        allowed[i + 1] =
            (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = operations[i]};
    int error = io_uring_register_restrictions(ring, allowed, N_OPERATIONS + 1);
    return error ? error : io_uring_enable_rings(ring);
}

int corral_blk_uring_try(unsigned operation)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    int error = set_up(&ring, 4, 8);
    if (error < 0)
        return error;
    error = enable(&ring);
    if (!error) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        io_uring_prep_rw(operation, sqe, -1, NULL, 0, 0);
        error = io_uring_submit_and_wait(&ring, 1);
        if (error >= 0 && !(error = io_uring_peek_cqe(&ring, &cqe)))
            error = cqe->res;
    }
    io_uring_queue_exit(&ring);
    return error;
}

static void watch(struct corral_uring *u, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = corral_uring_sqe(u);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    sqe->user_data = tag;
    u->polls++;
}

static void cancel(struct corral_uring *u, uint64_t tag, unsigned flags)
{
    struct io_uring_sqe *sqe = corral_uring_sqe(u);
    io_uring_prep_cancel64(sqe, tag, flags);
    sqe->user_data = TAG_CANCEL;
    u->cancels++;
}

static void uring_submit(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_uring *u = b->engine_state;
    r->next = NULL;
    *u->last = r;
    u->last = &r->next;
}

/* Takes what is finished, by the kernel or here. */
static bool reap(struct corral_uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0, finished = io_uring_cq_ready(&u->ring);
    u->now = corral_worker_now();
    if (u->made || finished)
        corral_blk_measure(u->b); /* after all that is taken now */
    bool some = corral_uring_reap_made(u);
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (n == finished)
            break;
        n++;
        uint64_t tag = cqe->user_data;
        if (tag == TAG_CANCEL) {
            u->cancels--;
        } else if (!(tag & 1)) {
            corral_uring_result(u, (void *)(uintptr_t)tag, cqe->res);
        } else if (!(cqe->flags & IORING_CQE_F_MORE)) {
            u->polls--;
            if (cqe->res >= 0 && !corral_worker_stopping(&u->b->worker))
                watch(u, tag == TAG_STOP ? u->b->worker.wake_fd : u->b->queues[tag >> 2].served.doorbell, tag);
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

static bool is_full(const struct corral_uring *u)
{
    return u->bytes_in_flight >= CORRAL_BLK_IN_FLIGHT_MAX;
}

/* Takes what the guest has added, as far as the limits let it. */
static bool take(struct corral_uring *u)
{
    struct corral_blk *b = u->b;
    unsigned taken = 0;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        struct corral_blk_queue *q = &b->queues[i];
        struct corral_blk_request *r;
        if (!q->served.ready || q->served.vq.broken)
            continue;
        corral_virtq_ignore(&q->served.vq);
        unsigned n = 0;
        while (n < CORRAL_URING_ENTRIES && !corral_uring_round_is_full(u) && !is_full(u) &&
               !corral_blk_held_back(b, u->now) && corral_blk_take(b, q, u->now, &r) > 0) {
            u->in_flight++;
            u->bytes_in_flight += corral_blk_weight(r);
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

/* For `ns` at most, if that is not 0. */
static void sleep_until_news(struct corral_uring *u, uint64_t ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {ns / 1000000000, ns % 1000000000};
    if (ns)
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
    else
        io_uring_submit_and_wait(&u->ring, 1);
}

/* Once a stop has waited for a while, takes calls back. Those that the kernel has begun may not hear of it.
 * Returns how long to wait until then; 0: for ever. */
static uint64_t cancel_when_due(struct corral_uring *u)
{
    uint64_t now = corral_worker_now(), due = u->b->worker.stop_by - GRACE;
    if (u->cancelled)
        return 0;
    if (now < due)
        return due - now;
    cancel(u, 0, IORING_ASYNC_CANCEL_ANY); /* Linux 5.19; EINVAL without */
    u->cancelled = true;
    return 0;
}

static void watch_all(struct corral_uring *u)
{
    struct corral_blk *b = u->b;
    watch(u, b->worker.wake_fd, TAG_STOP);
    for (unsigned i = 0; i < b->config.n_queues; i++)
        if (b->queues[i].served.ready)
            watch(u, b->queues[i].served.doorbell, TAG_QUEUE(i));
}

/* When nothing is in flight: the ring has nothing more after it. */
static void watch_none(struct corral_uring *u)
{
    cancel(u, TAG_STOP, 0);
    for (unsigned i = 0; i < u->b->config.n_queues; i++)
        if (u->b->queues[i].served.ready)
            cancel(u, TAG_QUEUE(i), 0);
    while (u->polls || u->cancels) {
        sleep_until_news(u, 0);
        reap(u);
    }
}

static void serve(void *argument)
{
    struct corral_uring *u = argument;
    struct corral_blk *b = u->b;
    watch_all(u);
    for (;;) {
        bool stopping = corral_worker_stopping(&b->worker);
        bool some = reap(u);
        some |= resume(u);
        corral_uring_publish(u);
        if (stopping && !u->in_flight) {
            corral_uring_tell(u);
            watch_none(u);
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
        uint64_t wait = stopping ? cancel_when_due(u) : corral_blk_held_back(b, corral_worker_now());
        /* Not while the host is at work for us: that takes as long as it takes. */
        bool idle = !u->in_flight && !wait && !stopping;
        if (idle && corral_uring_hold(u))
            continue;
        corral_uring_tell(u);
        if (idle && !some)
            some = corral_uring_spin(u);
        if (some || u->ready || (!stopping && !wait && !is_full(u) && corral_blk_listen(b)))
            continue;
        sleep_until_news(u, wait);
    }
}

/* By the disk's thread: a ring belongs to the thread that enables it, and its workers' CPUs to that which made it.
 */
static int prepare(void *argument)
{
    struct corral_uring *u = argument;
    struct corral_blk *b = u->b;
    /* The kernel keeps more than this until there is room (IORING_FEAT_NODROP). */
    unsigned most = 2 * (CORRAL_URING_ENTRIES + b->config.n_queues * b->config.queue_size);
    int error = set_up(&u->ring, CORRAL_URING_ENTRIES, most < 32768 ? most : 32768);
    if (error < 0)
        return error;
    u->has_ring = true;
    error = io_uring_register_files(&u->ring, b->files, CORRAL_BLK_FILES);
    cpu_set_t cpus;
    if (!error && corral_worker_cpus(&b->worker, &cpus))
        io_uring_register_iowq_aff(&u->ring, sizeof cpus,
                                   &cpus); /* Linux 5.14; without, they run where they like */
    return error < 0 ? error : enable(&u->ring);
}

static int create(struct corral_blk *b)
{
    struct corral_uring *u = b->engine_state = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->b = b;
    u->scratch = calloc(CORRAL_URING_SCRATCH, sizeof *u->scratch);
    if (!u->scratch)
        return -ENOMEM;
    return corral_worker_add_thread(&b->worker, NULL, prepare, serve, u);
}

static void destroy(struct corral_blk *b)
{
    struct corral_uring *u = b->engine_state;
    if (u->has_ring)
        io_uring_queue_exit(&u->ring);
    free(u->scratch);
    free(u);
}

static void start(struct corral_blk *b)
{
    struct corral_uring *u = b->engine_state;
    *u = (struct corral_uring){.b = b, .ring = u->ring, .has_ring = true, .scratch = u->scratch};
    u->last = &u->ready;
    u->made_last = &u->made;
}

const struct corral_blk_engine corral_blk_uring = {create, destroy, start, uring_submit};

#else /* built where liburing is missing */

int corral_blk_uring_probe(void)
{
    return -ENOSYS;
}

int corral_blk_uring_try(unsigned operation)
{
    (void)operation;
    return -ENOSYS;
}

bool corral_blk_has_uring(void)
{
    return false;
}

const struct corral_blk_engine corral_blk_uring = {0};

#endif
