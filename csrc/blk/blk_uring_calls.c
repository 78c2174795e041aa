/* Requests and their calls: neighbours are made as one, and what can be done at once is. */
#define _GNU_SOURCE
#ifdef CORRAL_HAVE_URING

#include "blk_uring.h"
#include "vector_io.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

/* Of one round: then what is finished is told, and the guest has something to do meanwhile. */
#define ROUND_CALLS 32
#define ROUND_BYTES (512 * 1024)

/* Of one call for several requests; more gains nothing, and would have the first wait for the last. */
#define RUN_SEGMENTS 256
#define RUN_BYTES (256 * 1024)

#define SLOW_WRITE 2000000         /* ns: it was not just copied */
#define AFTER_SLOW_WRITE 100000000 /* ns, in which the kernel's threads make them */

void corral_uring_submit(struct corral_uring *u)
{
    io_uring_submit(&u->ring);
    if (!io_uring_sq_ready(&u->ring))
        u->scratch_used = 0;
}

struct io_uring_sqe *corral_uring_sqe(struct corral_uring *u)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&u->ring)))
        corral_uring_submit(u);
    return sqe;
}

static void call(struct corral_uring *u, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    struct io_uring_sqe *sqe = corral_uring_sqe(u);
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
static bool write_here(struct corral_uring *u, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    if (c->op != CORRAL_BLK_WRITE || c->flags || u->b->config.direct)
        return false;
    uint64_t start = corral_worker_now();
    if (start < u->no_writes_before)
        return false;
    ssize_t n = corral_writev(u->b->files[c->file], c->iov, c->n_iov, c->offset, 0);
    r->result = n < 0 ? -errno : n;
    uint64_t end = corral_worker_now();
    if (end - start > SLOW_WRITE)
        u->no_writes_before = end + AFTER_SLOW_WRITE;
    r->next = NULL;
    *u->made_last = r;
    u->made_last = &r->next;
    return true;
}

static void make(struct corral_uring *u, struct corral_blk_request *r, const struct corral_blk_call *c)
{
    u->round_calls++;
    u->round_bytes += c->length;
    if (!write_here(u, r, c))
        call(u, r, c);
}

/* --- calls that follow one another in the file are made as one --- */

void corral_uring_end_run(struct corral_uring *u)
{
    struct corral_blk_request *first = u->run;
    u->run = NULL;
    if (!first)
        return;
    if (first == u->run_last) {
        make(u, first, &first->call);
        return;
    }
    struct corral_blk_call all = first->call;
    while (u->scratch_used + u->run_segments > CORRAL_URING_SCRATCH)
        corral_uring_submit(u);
    all.iov = u->scratch + u->scratch_used;
    all.n_iov = u->run_segments;
    all.length = u->run_bytes;
    for (struct corral_blk_request *r = first; r; r = r->next_in_run) {
        memcpy(u->scratch + u->scratch_used, r->call.iov, r->call.n_iov * sizeof *u->scratch);
        u->scratch_used += r->call.n_iov;
    }
    make(u, first, &all);
}

/* Not one that failed or came short in a run: whose fault that was is found by making its call alone. Nor one with
 * RWF_DSYNC: a failure to make it stable is told once, and must not be asked for again. */
static bool may_run(const struct corral_blk_request *r)
{
    return (r->call.op == CORRAL_BLK_READ || r->call.op == CORRAL_BLK_WRITE) && !r->call.flags && !r->retries &&
           r->call.length < RUN_BYTES;
}

static bool follows(const struct corral_uring *u, const struct corral_blk_request *r)
{
    const struct corral_blk_call *first = &u->run->call;
    return r->call.op == first->op && r->call.file == first->file &&
           r->call.offset == first->offset + u->run_bytes && u->run_bytes + r->call.length <= RUN_BYTES &&
           u->run_segments + r->call.n_iov <= RUN_SEGMENTS;
}

static void plan(struct corral_uring *u, struct corral_blk_request *r)
{
    r->next_in_run = NULL;
    if (!may_run(r)) {
        make(u, r, &r->call);
        return;
    }
    if (u->run && follows(u, r)) {
        u->run_last->next_in_run = r;
        u->run_segments += r->call.n_iov;
        u->run_bytes += r->call.length;
        r->queue->stats.merged++;
    } else {
        corral_uring_end_run(u);
        u->run = r;
        u->run_segments = r->call.n_iov;
        u->run_bytes = r->call.length;
    }
    u->run_last = r;
}

void corral_uring_go_on(struct corral_uring *u, struct corral_blk_request *r)
{
    for (;;) {
        switch (corral_blk_step(u->b, r)) {
        case CORRAL_BLK_DONE:
            u->untold_bytes += r->bytes;
            u->in_flight--;
            u->bytes_in_flight -= corral_blk_weight(r);
            corral_blk_finish(r, u->now);
            return;
        case CORRAL_BLK_PARKED:
            return;
        case CORRAL_BLK_CALL:;
            int64_t result = corral_blk_before_call(u->b, r);
            if (result >= 0) {
                plan(u, r);
                return;
            }
            corral_blk_result(u->b, r, result);
        }
    }
}

/* What a call came to, request by request: those that it did not reach make a call of their own. */
void corral_uring_result(struct corral_uring *u, struct corral_blk_request *r, int64_t result)
{
    bool alone = !r->next_in_run;
    while (r) {
        struct corral_blk_request *next = r->next_in_run;
        int64_t length = r->call.length, mine = result < length ? result : length;
        bool reached = alone || mine > 0;
        corral_blk_result(u->b, r, reached ? mine : -EAGAIN);
        result = result > mine ? result - mine : 0;
        corral_uring_go_on(u, r);
        r = next;
    }
}

bool corral_uring_reap_made(struct corral_uring *u)
{
    struct corral_blk_request *made = u->made;
    bool some = made;
    u->made = NULL;
    u->made_last = &u->made;
    u->round_calls = u->round_bytes = 0;
    while (made) {
        struct corral_blk_request *next = made->next;
        corral_uring_result(u, made, made->result);
        made = next;
    }
    return some;
}

bool corral_uring_round_is_full(const struct corral_uring *u)
{
    return u->round_calls >= ROUND_CALLS || u->round_bytes >= ROUND_BYTES;
}

#endif
