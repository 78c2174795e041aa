/* From the other end to the driver. */
#include "net_device.h"
#include "vector_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ETHERNET 14 /* bytes of a frame's header */

/* A frame in the stage. */
struct frame {
    struct virtio_net_hdr_v1 header;
    const uint8_t *data;
    uint32_t size, whole; /* bytes of the frame, and of the stage that it takes */
};

/* Reads what there is and the stage has room for. False: there is nothing at present, or never again. */
static bool read_more(struct corral_net *n)
{
    if (!n->link)
        return false;
    uint32_t left = n->stage_end - n->stage_at;
    if (n->stage_at) { /* the first part of a frame, at most */
        memmove(n->stage, n->stage + n->stage_at, left);
        n->stage_at = 0;
        n->stage_end = left;
    }
    struct iovec iov = {n->stage + left, sizeof n->stage - left};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t got = n->config.tap ? corral_readv(n->config.fd, &iov, 1, CORRAL_HERE)
                                : recvmsg(n->config.fd, &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == EIO)) /* EIO: a tap that is down */
        return false;
    if (got <= 0) {
        corral_net_lose_link(n);
        return false;
    }
    n->stage_end += got;
    return true;
}

/* 1: the next frame; 0: it is not there as a whole; -1: what is there is no frame, and the stream makes no sense.
 */
static int next_of_stream(const struct corral_net *n, struct frame *f)
{
    uint32_t there = n->stage_end - n->stage_at, size;
    if (there < sizeof size)
        return 0;
    memcpy(&size, n->stage + n->stage_at, sizeof size);
    size = ntohl(size);
    if (size > CORRAL_NET_FRAME_MAX)
        return -1;
    if (there - sizeof size < size)
        return 0;
    *f = (struct frame){.data = n->stage + n->stage_at + sizeof size, .size = size, .whole = sizeof size + size};
    if (n->config.trusted && corral_net_has(n, VIRTIO_NET_F_GUEST_CSUM))
        f->header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    return 1;
}

/* A tap's read is one frame, with a header as the driver wants it: the host was told what that knows. */
static int next_of_tap(const struct corral_net *n, struct frame *f)
{
    uint32_t there = n->stage_end - n->stage_at;
    if (there < sizeof f->header)
        return there ? -1 : 0;
    *f = (struct frame){.data = n->stage + n->stage_at + sizeof f->header, .whole = there};
    memcpy(&f->header, n->stage + n->stage_at, sizeof f->header);
    f->size = there - sizeof f->header;
    return 1;
}

static bool next_frame(struct corral_net *n, struct frame *f)
{
    for (;;) {
        int found = n->config.tap ? next_of_tap(n, f) : next_of_stream(n, f);
        if (found < 0)
            corral_net_lose_link(n);
        if (found)
            return found > 0;
        if (!read_more(n))
            return false;
    }
}

/* Copies into a chain's buffers behind their first `skip` bytes, as much as fits. */
static uint32_t put(const struct corral_chain *chain, uint64_t skip, const void *from, uint32_t size)
{
    uint32_t done = 0;
    for (unsigned i = chain->n_read; i < (unsigned)chain->n_read + chain->n_write && done < size; i++) {
        const struct iovec *segment = &chain->iov[i];
        if (skip >= segment->iov_len) {
            skip -= segment->iov_len;
            continue;
        }
        size_t room = segment->iov_len - skip, part = size - done < room ? size - done : room;
        memcpy((uint8_t *)segment->iov_base + skip, (const uint8_t *)from + done, part);
        skip = 0;
        done += part;
    }
    return done;
}

/* Takes one more of the driver's buffers for the frame. As corral_virtq_pop. */
static int take_buffer(struct corral_net *n, const struct frame *f)
{
    struct corral_net_placed *p = &n->placed;
    struct corral_chain later, *chain = p->n ? &later : &p->first;
    int got = corral_virtq_pop(&n->queue[CORRAL_NET_RX].vq, chain);
    if (got > 0 && chain->write_size < CORRAL_NET_HEADER)
        got = -EPROTO;
    if (got <= 0)
        return got;
    uint32_t header = p->n ? 0 : CORRAL_NET_HEADER;
    uint32_t before = p->n ? p->size - CORRAL_NET_HEADER : 0;
    uint32_t written = header + put(chain, header, f->data + before, f->size - before);
    p->head[p->n] = chain->head;
    p->written[p->n++] = written;
    p->size += written;
    return 1;
}

enum placing { PLACED, WAITS, DOES_NOT_FIT, BROKEN };

/* Into as many buffers as it takes, which the driver sees at the next publish. */
static enum placing place(struct corral_net *n, struct frame *f)
{
    struct corral_net_placed *p = &n->placed;
    struct corral_virtq *vq = &n->queue[CORRAL_NET_RX].vq;
    unsigned most = corral_net_has(n, VIRTIO_NET_F_MRG_RXBUF) ? vq->size : 1;
    while (p->size < sizeof f->header + f->size) {
        int got = p->n == most ? 0 : take_buffer(n, f);
        if (got < 0)
            return BROKEN;
        if (!got && p->n == most) {
            corral_virtq_put_back(vq, p->n);
            p->n = p->size = 0;
            return DOES_NOT_FIT;
        }
        if (!got)
            return WAITS;
    }
    f->header.num_buffers = p->n;
    put(&p->first, 0, &f->header, sizeof f->header);
    for (unsigned i = 0; i < p->n; i++)
        corral_virtq_push(vq, p->head[i], p->written[i]);
    p->n = p->size = 0;
    return PLACED;
}

/* Returns whether the next frame may follow. */
static bool deliver(struct corral_net *n, struct frame *f)
{
    enum placing how = f->size < ETHERNET ? DOES_NOT_FIT : place(n, f);
    n->starved = how == WAITS;
    if (how == BROKEN)
        corral_worker_break(&n->worker);
    if (how == WAITS || how == BROKEN)
        return false;
    if (how == PLACED) {
        const struct iovec all = {(void *)f->data, f->size};
        corral_net_passed(n, false, &all, 1, 0);
        pthread_mutex_lock(&n->rules);
        corral_net_came_in(&n->flows, f->data, f->size);
        pthread_mutex_unlock(&n->rules);
    }
    n->stage_at += f->whole;
    corral_net_count(how == PLACED ? &n->stats.received : &n->stats.received_dropped, 1);
    corral_net_count(&n->stats.received_bytes, how == PLACED ? f->size : 0);
    return true;
}

bool corral_net_receive(struct corral_net *n)
{
    struct corral_served_queue *q = &n->queue[CORRAL_NET_RX];
    struct frame f;
    unsigned done = 0;
    while (done < CORRAL_NET_ROUND && next_frame(n, &f) && deliver(n, &f))
        done++;
    if (q->vq.published != q->vq.next_used) {
        corral_virtq_publish(&q->vq);
        corral_worker_tell(&n->worker, q);
    }
    return done;
}
