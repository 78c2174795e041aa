/* A request's two ends: from a chain to what is to be done, and from what was done to a status byte. */
#include "blk_device.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define LOOK_AGAIN 1000000 /* ns, in a hold */

/* Takes up to n bytes off the front of a list of segments, which is consumed; returns how many there were. */
static size_t take_front(struct iovec **iov, uint16_t *n_iov, void *to, size_t n)
{
    size_t done = 0;
    while (done < n && *n_iov) {
        size_t part = (*iov)->iov_len < n - done ? (*iov)->iov_len : n - done;
        memcpy((uint8_t *)to + done, (*iov)->iov_base, part);
        done += part;
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + part;
        (*iov)->iov_len -= part;
        if (!(*iov)->iov_len) {
            ++*iov;
            --*n_iov;
        }
    }
    return done;
}

static bool on_disk(const struct corral_blk *b, uint64_t sector, uint64_t length)
{
    uint64_t sectors = b->config.size / SECTOR;
    return length % SECTOR == 0 && sector <= sectors && length / SECTOR <= sectors - sector;
}

static uint8_t parse_transfer(struct corral_blk *b, struct corral_blk_request *r, uint64_t sector, uint64_t length)
{
    if (!on_disk(b, sector, length))
        return VIRTIO_BLK_S_IOERR;
    r->offset = sector * SECTOR;
    r->left = r->bytes = length;
    return VIRTIO_BLK_S_OK;
}

/* Section 5.2.6: an array of ranges, each checked before the first is touched. */
static uint8_t parse_ranges(struct corral_blk *b, struct corral_blk_request *r, struct iovec *iov, uint16_t n_iov,
                            uint64_t length)
{
    struct virtio_blk_discard_write_zeroes segments[CORRAL_BLK_RANGES_MAX];
    if (!length || length % sizeof segments[0] || length > sizeof segments)
        return VIRTIO_BLK_S_IOERR;
    take_front(&iov, &n_iov, segments, length);
    r->n_ranges = length / sizeof segments[0];
    for (unsigned i = 0; i < r->n_ranges; i++) {
        uint32_t flags = segments[i].flags, sectors = segments[i].num_sectors;
        uint32_t known = r->type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
        if (flags & ~known)
            return VIRTIO_BLK_S_UNSUPP;
        if (sectors > CORRAL_BLK_RANGE_SECTORS_MAX || !on_disk(b, segments[i].sector, (uint64_t)sectors * SECTOR))
            return VIRTIO_BLK_S_IOERR;
        r->ranges[i] = (struct corral_blk_range){.offset = segments[i].sector * SECTOR,
                                                 .length = (uint64_t)sectors * SECTOR,
                                                 .unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
    }
    return VIRTIO_BLK_S_OK;
}

/* GET_ID has no disk behind it and is answered here. `room` bytes of buffer are there before the status. */
static uint8_t answer_id(struct corral_blk *b, struct corral_blk_request *r, uint64_t room)
{
    if (room < VIRTIO_BLK_ID_BYTES)
        return VIRTIO_BLK_S_IOERR;
    /* What is between the id and the status stays as it was, so the status counts as written only if it is next.
     */
    r->written = room == VIRTIO_BLK_ID_BYTES ? VIRTIO_BLK_ID_BYTES + 1 : VIRTIO_BLK_ID_BYTES;
    r->left = VIRTIO_BLK_ID_BYTES;
    corral_blk_copy_to_guest(r, (const uint8_t *)b->config.id, VIRTIO_BLK_ID_BYTES);
    return VIRTIO_BLK_S_OK;
}

static bool negotiated(const struct corral_blk *b, unsigned feature)
{
    return b->worker.features >> feature & 1;
}

/* The status that the request has so far: OK when there is something to do or all is done. Section 5.2.6.2. */
static uint8_t parse(struct corral_blk *b, struct corral_blk_request *r)
{
    struct corral_chain *c = &r->chain;
    struct iovec *readable = c->iov, *writable = c->iov + c->n_read;
    r->type = UINT32_MAX;
    r->status_at = NULL;
    if (!c->n_write)
        return VIRTIO_BLK_S_IOERR;
    /* The framing is the driver's choice (section 2.7.4): the status is the last byte that we may write, the
     * header the first 16 that we may read, whatever the segments. */
    struct iovec *last = &writable[c->n_write - 1];
    r->status_at = (uint8_t *)last->iov_base + --last->iov_len;
    if (!last->iov_len)
        c->n_write--;
    uint64_t room = c->write_size - 1;

    struct virtio_blk_outhdr header;
    if (take_front(&readable, &c->n_read, &header, sizeof header) < sizeof header)
        return VIRTIO_BLK_S_IOERR;
    uint64_t data = c->read_size - sizeof header;
    r->type = header.type;
    r->written = c->write_size;
    r->iov = writable;
    r->n_iov = c->n_write;
    switch (header.type) {
    case VIRTIO_BLK_T_IN:
        return data ? VIRTIO_BLK_S_IOERR : parse_transfer(b, r, header.sector, room);
    case VIRTIO_BLK_T_OUT:
        r->iov = readable;
        r->n_iov = c->n_read;
        return room || b->config.read_only ? VIRTIO_BLK_S_IOERR : parse_transfer(b, r, header.sector, data);
    case VIRTIO_BLK_T_FLUSH:
        r->written = room ? 0 : 1;
        return VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_GET_ID:
        return answer_id(b, r, room);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        if (!negotiated(b, header.type == VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
            return VIRTIO_BLK_S_UNSUPP;
        if (room || b->config.read_only)
            return VIRTIO_BLK_S_IOERR;
        return parse_ranges(b, r, readable, c->n_read, data);
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

static void lock(struct corral_blk *b, struct corral_blk_queue *q)
{
    if (b->shared)
        pthread_mutex_lock(&q->lock);
}

static void unlock(struct corral_blk *b, struct corral_blk_queue *q)
{
    if (b->shared)
        pthread_mutex_unlock(&q->lock);
}

int corral_blk_take(struct corral_blk *b, struct corral_blk_queue *q, uint64_t now,
                    struct corral_blk_request **out)
{
    if (q->served.vq.broken)
        return -EPROTO;
    /* There is always a free one: they are one more than chains can be in flight. */
    lock(b, q);
    struct corral_blk_request *r = q->free;
    q->free = r->next;
    unlock(b, q);
    int popped = corral_virtq_pop(&q->served.vq, &r->chain);
    if (popped <= 0) {
        lock(b, q);
        r->next = q->free;
        q->free = r;
        unlock(b, q);
        if (popped < 0)
            corral_worker_break(&b->worker);
        return popped;
    }
    r->popped = now;
    r->n_ranges = r->range = r->phase = r->retries = 0;
    r->left = r->bytes = r->got = 0;
    r->cut = NULL;
    r->bounce = NULL;
    r->claimed = false;
    r->body = NULL;
    r->status = parse(b, r);
    if (r->status == VIRTIO_BLK_S_OK)
        corral_blk_plan(b, r);
    corral_limit_charge(&b->ops, now, 1);
    corral_limit_charge(&b->bytes, now, r->bytes);
    *out = r;
    return 1;
}

static void count(struct corral_blk_stats *s, const struct corral_blk_request *r, uint64_t now)
{
    bool ok = r->status == VIRTIO_BLK_S_OK;
    switch (r->type) {
    case VIRTIO_BLK_T_IN:
        s->reads++;
        s->read_bytes += ok ? r->bytes : 0;
        break;
    case VIRTIO_BLK_T_OUT:
        s->writes++;
        s->written_bytes += ok ? r->bytes : 0;
        break;
    case VIRTIO_BLK_T_FLUSH:
        s->flushes++;
        break;
    case VIRTIO_BLK_T_DISCARD:
        s->discards++;
        break;
    case VIRTIO_BLK_T_WRITE_ZEROES:
        s->write_zeroes++;
        break;
    case VIRTIO_BLK_T_GET_ID:
        s->get_ids++;
        break;
    default:
        s->others++;
    }
    s->errors += r->status == VIRTIO_BLK_S_IOERR;
    s->refused += r->status == VIRTIO_BLK_S_UNSUPP;
    uint64_t took = now > r->popped ? now - r->popped : 1;
    unsigned bucket = 63 - __builtin_clzll(took);
    s->latency[bucket < CORRAL_BLK_LATENCY_BUCKETS ? bucket : CORRAL_BLK_LATENCY_BUCKETS - 1]++;
}

void corral_blk_finish(struct corral_blk_request *r, uint64_t now)
{
    struct corral_blk_queue *q = r->queue;
    uint32_t written = r->written;
    free(r->bounce);
    if (q->blk->config.record_fd > 0)
        corral_blk_record_answer(r);
    if (r->status_at)
        *r->status_at = r->status;
    /* The used length promises bytes from the start of the writable part (section 2.7.8.2): of a failed read there
     * are none, so the status counts only when it is all there is. */
    if (r->status != VIRTIO_BLK_S_OK)
        written = r->chain.write_size == 1;
    count(&q->stats, r, now);
    corral_virtq_push(&q->served.vq, r->chain.head, written);
    r->next = q->free;
    q->free = r;
}

void corral_blk_publish(struct corral_blk_queue *q)
{
    if (q->served.vq.published != q->served.vq.next_used)
        corral_virtq_publish(&q->served.vq);
}

void corral_blk_tell(struct corral_blk *b, struct corral_blk_queue *q)
{
    if (q->served.vq.told == q->served.vq.published)
        return;
    if (corral_worker_tell(&b->worker, &q->served))
        q->stats.interrupts++;
    else
        q->stats.interrupts_saved++;
}

static bool has_in_flight(const struct corral_blk *b)
{
    for (unsigned i = 0; i < b->config.n_queues; i++)
        if (b->queues[i].served.ready && corral_virtq_in_flight(&b->queues[i].served.vq))
            return true;
    return false;
}

uint64_t corral_blk_held_back(struct corral_blk *b, uint64_t now)
{
    if (corral_worker_held(&b->worker)) {
        if (!has_in_flight(b))
            corral_worker_is_idle(&b->worker);
        return LOOK_AGAIN;
    }
    uint64_t ops = corral_limit_wait(&b->ops, now), bytes = corral_limit_wait(&b->bytes, now);
    return ops > bytes ? ops : bytes;
}
