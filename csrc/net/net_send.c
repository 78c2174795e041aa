/* From the driver to the other end. */
#include "net_checksum.h"
#include "net_device.h"
#include "vector_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ETHERNET 14 /* bytes of a frame's header */

/* Copies what the segments from *iov on begin with, and takes that away from them. */
static void take(struct iovec **iov, void *to, size_t size)
{
    for (uint8_t *at = to; size;) {
        struct iovec *segment = *iov;
        size_t part = segment->iov_len < size ? segment->iov_len : size;
        memcpy(at, segment->iov_base, part);
        at += part;
        size -= part;
        segment->iov_base = (uint8_t *)segment->iov_base + part;
        segment->iov_len -= part;
        if (!segment->iov_len)
            ++*iov;
    }
}

/* Whether a frame's header asks for nothing but what was negotiated; what it may not say is taken out. */
static bool is_sound(const struct corral_net *n, struct virtio_net_hdr_v1 *h, uint32_t size)
{
    h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    h->num_buffers = 0;
    if (h->flags && (!corral_net_has(n, VIRTIO_NET_F_CSUM) || (uint32_t)h->csum_start + h->csum_offset + 2 > size))
        return false;
    if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        h->hdr_len = h->gso_size = 0;
        return true;
    }
    unsigned type = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    if (h->gso_type != type && !corral_net_has(n, VIRTIO_NET_F_HOST_ECN))
        return false;
    if (!h->flags || !h->gso_size)
        return false;
    return (type == VIRTIO_NET_HDR_GSO_TCPV4 && corral_net_has(n, VIRTIO_NET_F_HOST_TSO4)) ||
           (type == VIRTIO_NET_HDR_GSO_TCPV6 && corral_net_has(n, VIRTIO_NET_F_HOST_TSO6));
}

/* A stream has no header: the checksum is made here. False: it would be where nothing is copied. */
static bool complete(struct corral_net_outgoing *f, struct iovec *iov, unsigned n, uint32_t copied,
                     const struct virtio_net_hdr_v1 *h)
{
    uint32_t at = (uint32_t)h->csum_start + h->csum_offset;
    if (at + 2 > copied)
        return false;
    uint16_t checksum = corral_net_checksum(iov, n, f->lead + h->csum_start);
    memcpy(f->copied + CORRAL_NET_HEADER + at, &checksum, sizeof checksum);
    return true;
}

/* Adds the frame of a chain to the batch. Its first bytes are a copy: what is looked at is what is sent. */
static void add(struct corral_net *n, struct corral_chain *chain)
{
    struct corral_net_batch *b = &n->batch;
    struct corral_net_outgoing *f = &b->frame[b->n++];
    struct iovec *iov = chain->iov, *out = b->iov + b->n_iov, *end = chain->iov + chain->n_read;
    struct virtio_net_hdr_v1 header;
    uint64_t size = chain->read_size - sizeof header;
    *f = (struct corral_net_outgoing){.head = chain->head, .end = b->n_iov};
    take(&iov, &header, sizeof header);
    if (size < ETHERNET || size > CORRAL_NET_FRAME_MAX || !is_sound(n, &header, size)) {
        corral_net_count(&n->stats.refused, 1);
        return;
    }
    uint32_t copied = size < CORRAL_NET_HEAD ? size : CORRAL_NET_HEAD, length = htonl(size);
    take(&iov, f->copied + CORRAL_NET_HEADER, copied);
    if (n->filters && !corral_net_may_send(&n->filter, &n->flows, f->copied + CORRAL_NET_HEADER, copied)) {
        corral_net_count(&n->stats.filtered, 1);
        return;
    }
    f->lead = n->config.tap ? sizeof header : sizeof length;
    memcpy(f->copied + CORRAL_NET_HEADER - f->lead, n->config.tap ? (void *)&header : &length, f->lead);
    out[0] = (struct iovec){f->copied + CORRAL_NET_HEADER - f->lead, f->lead + copied};
    memcpy(out + 1, iov, (end - iov) * sizeof *iov);
    unsigned n_out = 1 + (end - iov);
    if (!n->config.tap && header.flags && !complete(f, out, n_out, copied, &header)) {
        corral_net_count(&n->stats.refused, 1);
        return;
    }
    f->size = size;
    b->bytes += f->lead + size;
    f->end = b->n_iov += n_out;
}

static void collect(struct corral_net *n)
{
    struct corral_net_batch *b = &n->batch;
    struct corral_served_queue *q = &n->queue[CORRAL_NET_TX];
    struct corral_chain chain;
    b->n = b->n_iov = b->bytes = 0;
    while (b->n < CORRAL_NET_ROUND && b->n_iov + 1 + CORRAL_CHAIN_SEGMENTS <= CORRAL_NET_SEGMENTS) {
        int got = corral_virtq_pop(&q->vq, &chain);
        if (got > 0 && chain.read_size < CORRAL_NET_HEADER)
            got = -EPROTO;
        if (got < 0)
            corral_worker_break(&n->worker);
        if (got <= 0)
            return;
        if (!n->config.tap && b->bytes && b->bytes + chain.read_size > CORRAL_NET_PIECE) {
            corral_virtq_put_back(&q->vq, 1);
            return;
        }
        add(n, &chain);
    }
}

/* The rest of a frame of which a stream has had so many bytes, prefix and all: the chain goes back at once. */
static void keep_rest(struct corral_net *n, const struct iovec *iov, const struct iovec *end, size_t had)
{
    n->rest_at = n->rest_end = 0;
    for (; iov < end; iov++) {
        size_t skip = had < iov->iov_len ? had : iov->iov_len;
        memcpy(n->rest + n->rest_end, (const uint8_t *)iov->iov_base + skip, iov->iov_len - skip);
        n->rest_end += iov->iov_len - skip;
        had -= skip;
    }
}

static ssize_t write_stream(const struct corral_net *n, struct iovec *iov, unsigned n_iov)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n_iov};
    ssize_t done;
    do
        done = sendmsg(n->config.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    return done;
}

/* Whether nothing of an earlier frame is left to be sent. */
static bool flush_rest(struct corral_net *n)
{
    while (n->link && n->rest_at < n->rest_end) {
        struct iovec iov = {n->rest + n->rest_at, n->rest_end - n->rest_at};
        ssize_t done = write_stream(n, &iov, 1);
        if (done < 0 && errno == EAGAIN)
            return false;
        if (done < 0)
            corral_net_lose_link(n);
        else
            n->rest_at += done;
    }
    return true;
}

static void count_sent(struct corral_net *n, const struct corral_net_outgoing *f, unsigned begin)
{
    if (f->size)
        corral_net_passed(n, true, n->batch.iov + begin, f->end - begin, f->lead);
    corral_net_count(&n->stats.sent, !!f->size);
    corral_net_count(&n->stats.sent_bytes, f->size);
}

/* Both return how many frames are done with, of those that the batch has. */

static unsigned send_stream(struct corral_net *n)
{
    struct corral_net_batch *b = &n->batch;
    ssize_t done = b->n_iov ? write_stream(n, b->iov, b->n_iov) : 0;
    if (done < 0) {
        if (errno != EAGAIN)
            corral_net_lose_link(n);
        else
            n->blocked = true;
        done = 0;
    }
    unsigned begin = 0, i = 0;
    for (size_t left = done; i < b->n; begin = b->frame[i++].end) {
        const struct corral_net_outgoing *f = &b->frame[i];
        size_t all = f->size ? f->lead + f->size : 0;
        if (all > left) {
            n->blocked = true;
            if (left) {
                keep_rest(n, b->iov + begin, b->iov + f->end, left);
                count_sent(n, f, begin);
                i++;
            }
            break;
        }
        left -= all;
        count_sent(n, f, begin);
    }
    return i;
}

static unsigned send_tap(struct corral_net *n)
{
    struct corral_net_batch *b = &n->batch;
    unsigned begin = 0, i = 0;
    for (; i < b->n && n->link; begin = b->frame[i++].end) {
        const struct corral_net_outgoing *f = &b->frame[i];
        if (!f->size)
            continue;
        if (corral_writev(n->config.fd, b->iov + begin, f->end - begin, CORRAL_HERE, 0) >= 0) {
            count_sent(n, f, begin);
        } else if (errno == EAGAIN) {
            n->blocked = true;
            break;
        } else if (errno == EBADFD || errno == ENODEV) {
            corral_net_lose_link(n);
        } else { /* a device that is down (EIO), or a header that the host's kernel makes no sense of */
            corral_net_count(&n->stats.sent_dropped, 1);
        }
    }
    return i;
}

/* With nothing at the other end: they are gone. */
static unsigned drop(struct corral_net *n, unsigned from)
{
    for (unsigned i = from; i < n->batch.n; i++)
        corral_net_count(&n->stats.sent_dropped, !!n->batch.frame[i].size);
    return n->batch.n;
}

bool corral_net_send(struct corral_net *n)
{
    struct corral_served_queue *q = &n->queue[CORRAL_NET_TX];
    n->blocked = !flush_rest(n);
    if (n->blocked)
        return false;
    pthread_mutex_lock(&n->rules);
    collect(n);
    pthread_mutex_unlock(&n->rules);
    unsigned done = !n->link ? 0 : n->config.tap ? send_tap(n) : send_stream(n);
    if (!n->link) {
        done = drop(n, done);
        n->blocked = false;
    }
    for (unsigned i = 0; i < done; i++)
        corral_virtq_push(&q->vq, n->batch.frame[i].head, 0);
    corral_virtq_put_back(&q->vq, n->batch.n - done);
    if (done) {
        corral_virtq_publish(&q->vq);
        corral_worker_tell(&n->worker, q);
    }
    return done;
}
