/* What a request does, call by call. */
#define _GNU_SOURCE
#include "blk_device.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* A call that is interrupted, or moves nothing, is made again this often before the request fails: more than ever
 * happens to a healthy backend, and an end for one that is not. */
#define RETRIES 1000

void corral_blk_fail(struct corral_blk_request *r)
{
    r->status = VIRTIO_BLK_S_IOERR;
}

bool corral_blk_again(struct corral_blk_request *r)
{
    if (++r->retries <= RETRIES)
        return true;
    corral_blk_fail(r);
    return false;
}

bool corral_blk_get_bounce(struct corral_blk_request *r, size_t size)
{
    if (!r->bounce)
        r->bounce = aligned_alloc(4096, size);
    if (!r->bounce)
        corral_blk_fail(r);
    return r->bounce;
}

void corral_blk_advance(struct corral_blk_request *r, uint64_t n)
{
    r->offset += n;
    r->left -= n;
    while (r->n_iov && n >= r->iov->iov_len) {
        n -= r->iov->iov_len;
        r->iov++;
        r->n_iov--;
    }
    if (n && r->n_iov) {
        r->iov->iov_base = (uint8_t *)r->iov->iov_base + n;
        r->iov->iov_len -= n;
    }
}

void corral_blk_copy_to_guest(struct corral_blk_request *r, const uint8_t *from, size_t n)
{
    while (n) {
        size_t part = r->iov->iov_len < n ? r->iov->iov_len : n;
        memcpy(r->iov->iov_base, from, part);
        from += part;
        n -= part;
        corral_blk_advance(r, part);
    }
}

void corral_blk_copy_from_guest(struct corral_blk_request *r, uint8_t *to, size_t n)
{
    for (const struct iovec *iov = r->iov; n; iov++) {
        size_t part = iov->iov_len < n ? iov->iov_len : n;
        memcpy(to, iov->iov_base, part);
        to += part;
        n -= part;
    }
}

/* --- planning a call --- */

static uint64_t longest_call(const struct corral_blk_request *r)
{
    return r->n_ranges ? CORRAL_BLK_ALLOCATE_MAX : CORRAL_BLK_CALL_MAX;
}

uint64_t corral_blk_piece(const struct corral_blk_request *r)
{
    uint64_t most = longest_call(r);
    return r->left < most ? r->left : most;
}

uint64_t corral_blk_weight(const struct corral_blk_request *r)
{
    uint64_t most = longest_call(r);
    return r->n_ranges || r->bytes > most ? most : r->bytes;
}

static void cut(struct corral_blk_request *r, struct iovec *iov, uint64_t too_much)
{
    r->cut = iov;
    r->cut_length = iov->iov_len;
    iov->iov_len -= too_much;
}

static void uncut(struct corral_blk_request *r)
{
    if (r->cut)
        r->cut->iov_len = r->cut_length;
    r->cut = NULL;
}

/* Makes call->iov hold `length` bytes, no more than it does. */
static void shorten(struct corral_blk_request *r, struct corral_blk_call *call, uint64_t length)
{
    uint64_t sum = 0;
    unsigned n = 0;
    while (sum < length)
        sum += call->iov[n++].iov_len;
    if (sum > length)
        cut(r, &call->iov[n - 1], sum - length);
    call->n_iov = n;
    call->length = length;
}

enum corral_blk_next corral_blk_call_data(struct corral_blk_request *r, enum corral_blk_op op, unsigned file,
                                          uint64_t length)
{
    r->call = (struct corral_blk_call){
        .op = op, .file = file, .offset = r->offset, .length = r->left, .iov = r->iov, .n_iov = r->n_iov};
    if (length < r->left)
        shorten(r, &r->call, length);
    return CORRAL_BLK_CALL;
}

enum corral_blk_next corral_blk_call_buffer(struct corral_blk_request *r, enum corral_blk_op op, unsigned file,
                                            uint64_t offset, void *buffer, uint64_t length)
{
    r->small = (struct iovec){.iov_base = buffer, .iov_len = length};
    r->call = (struct corral_blk_call){
        .op = op, .file = file, .offset = offset, .length = length, .iov = &r->small, .n_iov = 1};
    return CORRAL_BLK_CALL;
}

enum corral_blk_next corral_blk_call_allocate(struct corral_blk_request *r, unsigned file, uint64_t length,
                                              int mode)
{
    r->call = (struct corral_blk_call){
        .op = CORRAL_BLK_ALLOCATE, .file = file, .offset = r->offset, .length = length, .flags = mode};
    return CORRAL_BLK_CALL;
}

/* --- what bodies have in common --- */

bool corral_blk_write_through(const struct corral_blk *b)
{
    return b->config.write_through || !(b->worker.features >> VIRTIO_BLK_F_FLUSH & 1) ||
           !__atomic_load_n(&b->writeback, __ATOMIC_SEQ_CST);
}

bool corral_blk_moved(struct corral_blk_request *r, int64_t result)
{
    if (result > 0)
        return true;
    corral_blk_fail(r);
    return false;
}

/* --- FLUSH --- */

static enum corral_blk_next flush_step(struct corral_blk *b, struct corral_blk_request *r)
{
    if (__atomic_load_n(&b->sync_lost, __ATOMIC_SEQ_CST))
        corral_blk_fail(r);
    if (r->phase || r->status != VIRTIO_BLK_S_OK)
        return CORRAL_BLK_DONE;
    r->call = (struct corral_blk_call){.op = CORRAL_BLK_SYNC, .file = CORRAL_BLK_IMAGE};
    return CORRAL_BLK_CALL;
}

static void flush_took(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    r->phase = 1;
    if (result < 0) {
        __atomic_store_n(&b->sync_lost, true, __ATOMIC_SEQ_CST);
        corral_blk_fail(r);
    }
}

static const struct corral_blk_body flush = {flush_step, flush_took};

/* --- all of them --- */

void corral_blk_plan(struct corral_blk *b, struct corral_blk_request *r)
{
    bool layered = b->overlay;
    switch (r->type) {
    case VIRTIO_BLK_T_IN:
        r->body = layered ? &corral_overlay_read : &corral_blk_transfer;
        if (b->config.direct && !corral_blk_aligned(b, r))
            r->body = &corral_blk_bounce;
        break;
    case VIRTIO_BLK_T_OUT:
        r->body = layered ? &corral_overlay_write : &corral_blk_transfer;
        if (b->config.direct && ((r->offset | r->left) & (b->config.block_size - 1)))
            corral_blk_fail(r); /* less than the device's own block; the driver knows blk_size */
        else if (b->config.direct && !corral_blk_aligned(b, r))
            r->body = &corral_blk_bounce;
        break;
    case VIRTIO_BLK_T_FLUSH:
        /* A layer that is thrown away in the end has nothing that must survive. */
        r->body = layered || b->config.false_flush ? NULL : &flush;
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        r->body = layered ? &corral_overlay_zero : &corral_blk_zero;
        break;
    }
}

enum corral_blk_next corral_blk_step(struct corral_blk *b, struct corral_blk_request *r)
{
    enum corral_blk_next next = CORRAL_BLK_DONE;
    if (r->body && r->status == VIRTIO_BLK_S_OK)
        next = r->body->step(b, r);
    if (next == CORRAL_BLK_CALL && corral_worker_stopping(&b->worker))
        corral_blk_fail(r);
    if (r->status != VIRTIO_BLK_S_OK)
        next = CORRAL_BLK_DONE;
    if (next == CORRAL_BLK_DONE && r->claimed)
        corral_overlay_release(b, r);
    return next;
}

static bool transfers(const struct corral_blk_request *r)
{
    return r->call.op == CORRAL_BLK_READ || r->call.op == CORRAL_BLK_WRITE;
}

/* --- what tests want of the calls --- */

static void record(const struct corral_blk *b, const struct corral_blk_request *r, bool done, int64_t result)
{
    const struct corral_blk_call *c = &r->call;
    struct corral_blk_record head = {.request = (uintptr_t)r,
                                     .op = c->op,
                                     .file = c->file,
                                     .flags = c->flags,
                                     .done = done,
                                     .offset = c->offset,
                                     .length = c->length,
                                     .result = result};
    struct iovec parts[1 + CORRAL_CHAIN_SEGMENTS] = {{&head, sizeof head}};
    unsigned n = done || c->op != CORRAL_BLK_WRITE ? 0 : c->n_iov;
    if (n)
        memcpy(parts + 1, c->iov, n * sizeof parts[0]);
    if (writev(b->config.record_fd, parts, 1 + n) < 0)
        abort(); /* a test without its record proves nothing */
}

void corral_blk_record_answer(const struct corral_blk_request *r)
{
    const struct corral_blk *b = r->queue->blk;
    struct corral_blk_record answer = {.request = (uintptr_t)r,
                                       .op = CORRAL_BLK_RECORD_ANSWER,
                                       .file = r->queue - b->queues,
                                       .flags = r->type,
                                       .done = true,
                                       .offset = r->chain.head,
                                       .length = r->bytes,
                                       .result = r->status};
    if (write(b->config.record_fd, &answer, sizeof answer) < 0)
        abort();
}

/* splitmix64: the same seed, the same faults. */
static uint64_t scramble(uint64_t n)
{
    n *= 0x9e3779b97f4a7c15;
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
    n = (n ^ n >> 27) * 0x94d049bb133111eb;
    return n ^ n >> 31;
}

static int64_t inject(struct corral_blk *b, struct corral_blk_request *r)
{
    uint64_t n = __atomic_add_fetch(&b->calls, 1, __ATOMIC_RELAXED);
    int error = b->config.fault_errno;
    if (b->config.fault_seed) {
        static const int errors[] = {0, EIO, ENOSPC, EINTR};
        n = scramble(b->config.fault_seed + n);
        error = errors[n >> 62];
    }
    if (n % b->config.fault_every)
        return 0;
    if (error)
        return -error;
    uint64_t third = r->call.length / 3;
    if (b->config.direct)
        third -= third % b->config.block_size;
    if (transfers(r) && third) {
        uncut(r);
        shorten(r, &r->call, third);
    }
    return 0;
}

/* --- an image that became shorter --- */

/* A file that was truncated grows again with the first write behind its end, and what lay between is zeros then,
 * as if they had been written. Nobody can tell how much that is, so nothing of the image is believed any more. */
void corral_blk_measure(struct corral_blk *b)
{
    if (!b->resizable || __atomic_load_n(&b->shrunk, __ATOMIC_SEQ_CST))
        return;
    off_t end = lseek(b->config.fd, 0, SEEK_END); /* no call of ours minds: they all have offsets */
    if (end >= 0 && (uint64_t)end < b->config.size)
        __atomic_store_n(&b->shrunk, true, __ATOMIC_SEQ_CST);
}

static bool is_lost(const struct corral_blk *b, const struct corral_blk_call *c)
{
    return c->file == CORRAL_BLK_IMAGE && __atomic_load_n(&b->shrunk, __ATOMIC_SEQ_CST);
}

/* Such a write would make it as long as it was. */
static bool ends_the_image(const struct corral_blk *b, const struct corral_blk_call *c)
{
    return c->op == CORRAL_BLK_WRITE && c->file == CORRAL_BLK_IMAGE && c->offset + c->length == b->config.size;
}

static bool is_refused(struct corral_blk *b, const struct corral_blk_call *c)
{
    return c->file == CORRAL_BLK_OVERLAY && c->op == CORRAL_BLK_WRITE &&
           !corral_blk_room_take(b->room, c->offset, c->length);
}

int64_t corral_blk_before_call(struct corral_blk *b, struct corral_blk_request *r)
{
    if (ends_the_image(b, &r->call))
        corral_blk_measure(b);
    int64_t result = is_lost(b, &r->call) ? -EIO : b->config.fault_every ? inject(b, r) : 0;
    if (!result && is_refused(b, &r->call))
        result = -ENOSPC;
    if (b->config.record_fd > 0)
        record(b, r, false, result);
    return result;
}

/* The first of its kind is the one to tell: what comes later may come of it. */
static void note(struct corral_blk *b, const struct corral_blk_call *c, int error)
{
    uint64_t none = 0, first = (uint64_t)c->file << 32 | (uint32_t)error;
    __atomic_compare_exchange_n(&b->trouble, &none, first, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void corral_blk_result(struct corral_blk *b, struct corral_blk_request *r, int64_t result)
{
    if (b->config.record_fd > 0)
        record(b, r, true, result);
    if (result >= 0 && is_lost(b, &r->call))
        result = -EIO;
    uncut(r);
    if (result == -ECANCELED) { /* by a stop, and it has not begun: a sync has lost nothing */
        corral_blk_fail(r);
        return;
    }
    if (result == -EINTR || result == -EAGAIN) {
        corral_blk_again(r); /* the next step plans the same call */
        return;
    }
    if (result < 0 && r->call.op != CORRAL_BLK_ALLOCATE)
        note(b, &r->call, -result);
    /* The kernel tells each failure to write something back once. If it told it here, no FLUSH will hear of it. */
    if (result < 0 && (r->call.flags & RWF_DSYNC) && r->call.op == CORRAL_BLK_WRITE && !b->config.write_through)
        __atomic_store_n(&b->sync_lost, true, __ATOMIC_SEQ_CST);
    if (result < 0 && transfers(r))
        corral_blk_fail(r);
    else
        r->body->took(b, r, result);
}
