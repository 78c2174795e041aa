/* The io_uring engine: one thread a disk, which waits for doorbells and for its calls in the same place, and makes
 * all calls of a round with one system call.
 *
 * Doorbells are multishot polls of the eventfds. Nobody reads those: each signal is an edge, and an edge is
 * enough, since a round looks at all queues.
 *
 * Before it sleeps the thread looks at the queues for a moment longer: to be woken takes longer than most drivers
 * take for their next request, on both sides. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>

#ifdef CORRAL_HAVE_URING

#include "vcpu.h"

#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define ENTRIES 256
#define ROUND 32               /* calls, until what is finished is told: the guest has something to do meanwhile */
#define RUN_SEGMENTS 256       /* of one call for several requests */
#define RUN_BYTES (256 * 1024) /* more gains nothing, and would have the first wait for the last */
#define SCRATCH 4096
#define SLOW_WRITE 2000000         /* ns: it was not just copied */
#define AFTER_SLOW_WRITE 100000000 /* ns, in which the kernel's threads make them */

/* Of looking at the queues without sleeping. ns. */
#define SPIN 30000         /* more than a driver needs that has more to ask for */
#define LOOKS_LEFT_OUT 63  /* at most, after some that were in vain: what they cost stays below a half percent */
#define UNTOLD 16          /* requests that an interrupt is held back for, and */
#define HELD_BACK 500000   /* for how long, both at most */
#define LONGEST_GAP 300000 /* between two requests of one burst */
#define SHORTEST_PATIENCE 2000

/* user_data of what is not a request; those are pointers, and even. */
#define TAG_STOP 1
#define TAG_QUEUE(i) (((uint64_t)(i) << 2) | 3)

/* Looks in vain make the next ones rarer, and one that found something makes them the rule again. */
struct look {
    unsigned leave_out, left_out; /* how many; of these so far */
};

struct worker {
    struct corral_blk *b;
    pthread_t thread;
    struct io_uring ring;
    struct corral_blk_request *ready, **last; /* were parked, may go on */
    unsigned in_flight;                       /* taken and not yet finished */
    struct look spin, hold;
    uint64_t now, last_taken, gap, untold_since; /* ns; now: as of the last reap */
    /* Calls that follow one another in the file, to be made as one; not yet in the ring. Linked by next_in_run. */
    struct corral_blk_request *run, *run_last;
    unsigned run_segments;
    uint64_t run_bytes;
    unsigned scratch_used;
    struct corral_blk_request *made, **made_last; /* calls that were made here; their results wait to be reaped */
    unsigned n_made;
    uint64_t no_writes_before; /* ns: the last one here was slow */
    pthread_mutex_t lock;      /* of started */
    pthread_cond_t has_started;
    int started; /* 1: not yet known; else what corral_blk_start gets */
    /* Buffers of calls for several requests, until they are submitted: the kernel has its own copy then
     * (IORING_FEAT_SUBMIT_STABLE). */
    struct iovec scratch[SCRATCH];
};

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

static void submit(struct worker *w)
{
    io_uring_submit(&w->ring);
    if (!io_uring_sq_ready(&w->ring))
        w->scratch_used = 0;
}

static struct io_uring_sqe *get_sqe(struct worker *w)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&w->ring)))
        submit(w);
    return sqe;
}

static void watch(struct worker *w, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = get_sqe(w);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    sqe->user_data = tag;
}

static void call(struct worker *w, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    struct io_uring_sqe *sqe = get_sqe(w);
    /* Without a vector where one buffer is all: the kernel copies none then. */
    bool single = c->n_iov == 1 && c->length <= INT32_MAX;
    switch (c->op) {
    case CORRAL_BLK_READ:
        if (single)
            io_uring_prep_read(sqe, c->file, c->iov->iov_base, c->length, c->offset);
        else
            io_uring_prep_readv(sqe, c->file, c->iov, c->n_iov, c->offset);
        break;
    case CORRAL_BLK_WRITE:
        if (single)
            io_uring_prep_write(sqe, c->file, c->iov->iov_base, c->length, c->offset);
        else
            io_uring_prep_writev(sqe, c->file, c->iov, c->n_iov, c->offset);
        sqe->rw_flags = c->flags;
        break;
    case CORRAL_BLK_SYNC:
        io_uring_prep_fsync(sqe, c->file, IORING_FSYNC_DATASYNC);
        break;
    case CORRAL_BLK_ALLOCATE:
        io_uring_prep_fallocate(sqe, c->file, c->flags, c->offset, c->length);
        break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = (uintptr_t)r;
}

/* --- writes to the page cache --- */

/* Makes a call at once. io_uring has a thread of the kernel's make such writes, one after the other, where the
 * file system cannot promise that they do not wait (ext4), and that takes several times the copy that they are.
 * When they do wait, since too much is not on the disk yet, they are left to that thread for a while: reads go on
 * then. */
static bool write_here(struct worker *w, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    if (c->op != CORRAL_BLK_WRITE || c->flags || w->b->config.direct)
        return false;
    uint64_t start = corral_blk_now();
    if (start < w->no_writes_before)
        return false;
    ssize_t n = pwritev(w->b->files[c->file], c->iov, c->n_iov, c->offset);
    r->result = n < 0 ? -errno : n;
    uint64_t end = corral_blk_now();
    if (end - start > SLOW_WRITE)
        w->no_writes_before = end + AFTER_SLOW_WRITE;
    r->next = NULL;
    *w->made_last = r;
    w->made_last = &r->next;
    w->n_made++;
    return true;
}

static void make(struct worker *w, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    if (!write_here(w, r, c))
        call(w, r, c);
}

/* --- calls that follow one another in the file are made as one --- */

/* Makes the call, or calls, that wait for others to follow. */
static void end_run(struct worker *w)
{
    struct corral_blk_request *first = w->run;
    w->run = NULL;
    if (!first)
        return;
    if (first == w->run_last) {
        make(w, first, &first->call);
        return;
    }
    struct corral_blk_call all = first->call;
    while (w->scratch_used + w->run_segments > SCRATCH)
        submit(w);
    all.iov = w->scratch + w->scratch_used;
    all.n_iov = w->run_segments;
    all.length = w->run_bytes;
    for (struct corral_blk_request *r = first; r; r = r->next_in_run) {
        memcpy(w->scratch + w->scratch_used, r->call.iov, r->call.n_iov * sizeof *w->scratch);
        w->scratch_used += r->call.n_iov;
    }
    make(w, first, &all);
}

/* Not one that failed or came short in a run: whose fault that was is found by making its call alone. Nor one with
 * RWF_DSYNC: a failure to make it stable is told once, and must not be asked for again. */
static bool may_run(const struct corral_blk_request *r)
{
    return (r->call.op == CORRAL_BLK_READ || r->call.op == CORRAL_BLK_WRITE) && !r->call.flags && !r->retries &&
           r->call.length < RUN_BYTES;
}

static bool follows(const struct worker *w, const struct corral_blk_request *r)
{
    const struct corral_blk_call *first = &w->run->call;
    return r->call.op == first->op && r->call.file == first->file &&
           r->call.offset == first->offset + w->run_bytes && w->run_bytes + r->call.length <= RUN_BYTES &&
           w->run_segments + r->call.n_iov <= RUN_SEGMENTS;
}

static void plan(struct worker *w, struct corral_blk_request *r)
{
    r->next_in_run = NULL;
    if (!may_run(r)) {
        make(w, r, &r->call);
        return;
    }
    if (w->run && follows(w, r)) {
        w->run_last->next_in_run = r;
        w->run_segments += r->call.n_iov;
        w->run_bytes += r->call.length;
        r->queue->stats.merged++;
    } else {
        end_run(w);
        w->run = r;
        w->run_segments = r->call.n_iov;
        w->run_bytes = r->call.length;
    }
    w->run_last = r;
}

static void go_on(struct worker *w, struct corral_blk_request *r, uint64_t now)
{
    for (;;) {
        switch (corral_blk_step(w->b, r)) {
        case CORRAL_BLK_DONE:
            corral_blk_finish(r, now);
            w->in_flight--;
            return;
        case CORRAL_BLK_PARKED:
            return;
        case CORRAL_BLK_CALL:;
            int64_t result = corral_blk_before_call(w->b, r);
            if (result >= 0) {
                plan(w, r);
                return;
            }
            corral_blk_result(w->b, r, result);
        }
    }
}

static void uring_submit(struct corral_blk *b, struct corral_blk_request *r)
{
    struct worker *w = b->worker;
    r->next = NULL;
    *w->last = r;
    w->last = &r->next;
}

/* What a call came to, request by request: those that it did not reach make a call of their own. */
static void finish_run(struct worker *w, struct corral_blk_request *r, int64_t result, uint64_t now)
{
    bool alone = !r->next_in_run;
    while (r) {
        struct corral_blk_request *next = r->next_in_run;
        int64_t length = r->call.length, mine = result < length ? result : length;
        bool reached = alone || mine > 0;
        corral_blk_result(w->b, r, reached ? mine : -EAGAIN);
        result = result > mine ? result - mine : 0;
        go_on(w, r, now);
        r = next;
    }
}

/* Takes what is finished, by the kernel or here. */
static bool reap(struct worker *w)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0, finished = io_uring_cq_ready(&w->ring);
    uint64_t now = w->now = corral_blk_now();
    struct corral_blk_request *made = w->made;
    bool some = made;
    if (made || finished)
        corral_blk_measure(w->b); /* after all that is taken now */
    w->made = NULL;
    w->made_last = &w->made;
    w->n_made = 0;
    while (made) {
        struct corral_blk_request *next = made->next;
        finish_run(w, made, made->result, now);
        made = next;
    }
    io_uring_for_each_cqe(&w->ring, head, cqe)
    {
        if (n == finished)
            break;
        n++;
        uint64_t tag = cqe->user_data;
        if (tag == LIBURING_UDATA_TIMEOUT)
            continue;
        if (!(tag & 1)) {
            finish_run(w, (void *)(uintptr_t)tag, cqe->res, now);
        } else if (!(cqe->flags & IORING_CQE_F_MORE) && cqe->res >= 0) {
            watch(w, tag == TAG_STOP ? w->b->stop_fd : w->b->queues[tag >> 2].kick_fd, tag);
        }
    }
    io_uring_cq_advance(&w->ring, n);
    return some || n;
}

static bool resume(struct worker *w)
{
    struct corral_blk_request *r = w->ready;
    w->ready = NULL;
    w->last = &w->ready;
    bool some = r;
    while (r) {
        struct corral_blk_request *next = r->next;
        go_on(w, r, corral_blk_now());
        r = next;
    }
    return some;
}

static unsigned calls_of_round(const struct worker *w)
{
    return w->n_made + io_uring_sq_ready(&w->ring);
}

/* A running mean of the time between requests, pauses left out. */
static void learn_gap(struct worker *w, uint64_t now, unsigned n)
{
    uint64_t gap = (now - w->last_taken) / n;
    if (gap < LONGEST_GAP)
        w->gap += (int64_t)(gap - w->gap) / 8;
    w->last_taken = now;
}

/* Takes what the guest has added, as far as the limits let it. */
static bool take(struct worker *w)
{
    struct corral_blk *b = w->b;
    uint64_t now = corral_blk_now();
    unsigned taken = 0;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        struct corral_blk_queue *q = &b->queues[i];
        struct corral_blk_request *r;
        if (!q->ready || q->vq.broken)
            continue;
        corral_virtq_ignore(&q->vq);
        unsigned n = 0;
        /* Not for ever: what is finished wants to be told. */
        while (n < ENTRIES && calls_of_round(w) < ROUND && !corral_blk_held_back(b, now) &&
               corral_blk_take(b, q, now, &r) > 0) {
            w->in_flight++;
            n++;
            go_on(w, r, now);
        }
        q->stats.rounds += n != 0;
        taken += n;
    }
    if (taken)
        learn_gap(w, now, taken);
    return taken;
}

static void publish(struct worker *w)
{
    for (unsigned i = 0; i < w->b->config.n_queues; i++)
        if (w->b->queues[i].ready)
            corral_blk_publish(&w->b->queues[i]);
}

static void tell(struct worker *w)
{
    for (unsigned i = 0; i < w->b->config.n_queues; i++)
        if (w->b->queues[i].ready)
            corral_blk_tell(w->b, &w->b->queues[i]);
    w->untold_since = 0;
}

/* --- looking at the queues for a while, instead of sleeping --- */

static bool has_news(const struct worker *w)
{
    const struct corral_blk *b = w->b;
    if (io_uring_cq_ready(&w->ring) || corral_blk_stopping(b))
        return true;
    for (unsigned i = 0; i < b->config.n_queues; i++) {
        const struct corral_blk_queue *q = &b->queues[i];
        if (q->ready && !q->vq.broken && corral_virtq_has_more(&q->vq))
            return true;
    }
    return false;
}

static bool look(struct worker *w, struct look *l, uint64_t ns)
{
    if (l->left_out < l->leave_out) {
        l->left_out++;
        return false;
    }
    l->left_out = 0;
    uint64_t end = corral_blk_now() + ns;
    do {
        for (unsigned i = 0; i < 16; i++) {
            if (has_news(w)) {
                l->leave_out = 0;
                return true;
            }
            __builtin_ia32_pause();
        }
    } while (corral_blk_now() < end);
    l->leave_out = 2 * l->leave_out + 1;
    if (l->leave_out > LOOKS_LEFT_OUT)
        l->leave_out = LOOKS_LEFT_OUT;
    return false;
}

/* --- interrupts, which are what a disk in memory costs a guest most --- */

/* Requests wait for theirs, as many as may, or as long. */
static bool tell_now(struct worker *w)
{
    unsigned untold = 0;
    for (unsigned i = 0; i < w->b->config.n_queues; i++) {
        const struct corral_blk_queue *q = &w->b->queues[i];
        untold += q->ready ? (uint16_t)(q->vq.published - q->vq.told) : 0;
    }
    if (untold && !w->untold_since)
        w->untold_since = w->now;
    return untold >= UNTOLD || (untold && w->now - w->untold_since > HELD_BACK);
}

/* A driver that is busy adding requests gets one interrupt for several: it is held back while they come no slower
 * than they did of late. True: another one came. */
static bool hold_interrupt(struct worker *w)
{
    bool wanted = false;
    for (unsigned i = 0; i < w->b->config.n_queues; i++)
        wanted |= w->b->queues[i].ready && corral_virtq_wants_interrupt(&w->b->queues[i].vq);
    return wanted && look(w, &w->hold, 2 * w->gap > SHORTEST_PATIENCE ? 2 * w->gap : SHORTEST_PATIENCE);
}

static void sleep_until_news(struct worker *w, uint64_t held_back)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {held_back / 1000000000, held_back % 1000000000};
    if (held_back)
        io_uring_submit_and_wait_timeout(&w->ring, &cqe, 1, &timeout, NULL);
    else
        io_uring_submit_and_wait(&w->ring, 1);
}

static void serve(struct worker *w)
{
    struct corral_blk *b = w->b;
    for (;;) {
        bool stopping = corral_blk_stopping(b);
        bool some = reap(w);
        some |= resume(w);
        publish(w);
        if (stopping && !w->in_flight) {
            tell(w);
            return;
        }
        if (tell_now(w))
            tell(w);
        if (!stopping)
            some |= take(w);
        end_run(w);
        if (io_uring_sq_ready(&w->ring)) {
            /* Reads that the page cache has are finished by this. */
            submit(w);
            continue;
        }
        if (w->made)
            continue;
        publish(w);
        uint64_t held_back = stopping ? 0 : corral_blk_held_back(b, corral_blk_now());
        /* Not while the host is at work for us: that takes as long as it takes. */
        bool idle = !w->in_flight && !held_back && !stopping;
        if (idle && hold_interrupt(w))
            continue;
        tell(w);
        if (idle && !some)
            some = look(w, &w->spin, SPIN);
        if (some || w->ready || (!stopping && !held_back && corral_blk_listen(b)))
            continue;
        sleep_until_news(w, held_back);
    }
}

static int prepare(struct worker *w)
{
    struct corral_blk *b = w->b;
    unsigned in_flight = ENTRIES;
    for (unsigned i = 0; i < b->config.n_queues; i++)
        in_flight += b->queues[i].ready ? b->queues[i].vq.size : 0;
    /* More than this is kept by the kernel until there is room (IORING_FEAT_NODROP). */
    int error = set_up(&w->ring, ENTRIES, in_flight < 16384 ? 2 * in_flight : 32768);
    if (error < 0)
        return error;
    error = io_uring_register_files(&w->ring, b->files, CORRAL_BLK_FILES);
    if (error < 0) {
        io_uring_queue_exit(&w->ring);
        return error;
    }
    watch(w, b->stop_fd, TAG_STOP);
    for (unsigned i = 0; i < b->config.n_queues; i++)
        if (b->queues[i].ready)
            watch(w, b->queues[i].kick_fd, TAG_QUEUE(i));
    return 0;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    corral_name_thread(w->b->config.name);
    int error = prepare(w); /* here: a ring may belong to the thread that made it */
    pthread_mutex_lock(&w->lock);
    w->started = error;
    pthread_cond_signal(&w->has_started);
    pthread_mutex_unlock(&w->lock);
    if (error < 0)
        return NULL;
    serve(w);
    io_uring_queue_exit(&w->ring);
    return NULL;
}

static void stop(struct corral_blk *b)
{
    struct worker *w = b->worker;
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->has_started);
    free(w);
    b->worker = NULL;
}

static int start(struct corral_blk *b)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->b = b;
    w->last = &w->ready;
    w->made_last = &w->made;
    w->started = 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->has_started, NULL);
    b->worker = w;
    int error = corral_blk_thread(&w->thread, work, w);
    if (error < 0) {
        free(w);
        return error;
    }
    pthread_mutex_lock(&w->lock);
    while (w->started == 1)
        pthread_cond_wait(&w->has_started, &w->lock);
    error = w->started;
    pthread_mutex_unlock(&w->lock);
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
