/* Packets that go to the guest: answers to its own, and what programs of the host write, read into its memory. */
#define _GNU_SOURCE
#include "vsock_device.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ONCE 32           /* segments of a chain in one call */
#define MOST (64u * 1024) /* bytes of a packet */
#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))

uint32_t corral_vsock_room(const struct corral_vsock_connection *c)
{
    const uint32_t flying = c->sent - c->taken;
    return flying < c->room ? c->room - flying : 0;
}

void corral_vsock_refuse(struct corral_vsock *v, uint64_t cid, uint32_t guest_port, uint32_t host_port,
                         uint16_t type)
{
    if (v->n_resets == CORRAL_VSOCK_RESETS) /* not so: the caller has looked */
        return;
    v->resets[(v->resets_at + v->n_resets++) % CORRAL_VSOCK_RESETS] =
        (struct corral_vsock_reset){cid, guest_port, host_port, type};
}

bool corral_vsock_has_more(const struct corral_vsock *v)
{
    return v->n_resets || v->due_first != CORRAL_VSOCK_NONE;
}

/* --- into a chain --- */

static void write_header(const struct corral_chain *chain, const struct virtio_vsock_hdr *header)
{
    const uint8_t *from = (const uint8_t *)header;
    size_t left = sizeof *header;
    for (unsigned i = chain->n_read; left; i++) {
        const size_t part = chain->iov[i].iov_len < left ? chain->iov[i].iov_len : left;
        memcpy(chain->iov[i].iov_base, from, part);
        from += part;
        left -= part;
    }
}

/* What is behind the header, at most so many bytes. */
static unsigned behind_header(const struct corral_chain *chain, uint32_t most, struct iovec *iov)
{
    size_t skip = HEADER;
    unsigned n = 0;
    for (unsigned i = chain->n_read; i < chain->n_read + chain->n_write && n < ONCE && most; i++) {
        struct iovec segment = chain->iov[i];
        const size_t part = segment.iov_len < skip ? segment.iov_len : skip;
        segment.iov_base = (uint8_t *)segment.iov_base + part;
        segment.iov_len -= part;
        skip -= part;
        if (!segment.iov_len)
            continue;
        segment.iov_len = segment.iov_len < most ? segment.iov_len : most;
        most -= segment.iov_len;
        iov[n++] = segment;
    }
    return n;
}

static uint32_t write_packet(struct corral_vsock *v, const struct corral_chain *chain,
                             struct corral_vsock_connection *c, uint16_t operation, uint32_t flags, uint32_t size)
{
    const struct virtio_vsock_hdr header = {.src_cid = htole64(CORRAL_VSOCK_HOST),
                                            .dst_cid = htole64(v->config.cid),
                                            .src_port = htole32(c->host_port),
                                            .dst_port = htole32(c->guest_port),
                                            .len = htole32(size),
                                            .type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
                                            .op = htole16(operation),
                                            .flags = htole32(flags),
                                            .buf_alloc = htole32(CORRAL_VSOCK_WINDOW),
                                            .fwd_cnt = htole32(c->forwarded)};
    write_header(chain, &header);
    c->credit = c->forwarded;
    c->owes &= ~OWES_CREDIT; /* each packet tells it */
    return HEADER + size;
}

static uint32_t write_reset(struct corral_vsock *v, const struct corral_chain *chain)
{
    const struct corral_vsock_reset *r = &v->resets[v->resets_at];
    const struct virtio_vsock_hdr header = {.src_cid = htole64(CORRAL_VSOCK_HOST),
                                            .dst_cid = htole64(r->cid),
                                            .src_port = htole32(r->host_port),
                                            .dst_port = htole32(r->guest_port),
                                            .type = htole16(r->type),
                                            .op = htole16(VIRTIO_VSOCK_OP_RST)};
    v->resets_at = (v->resets_at + 1) % CORRAL_VSOCK_RESETS;
    v->n_resets--;
    write_header(chain, &header);
    return HEADER;
}

/* --- of a connection --- */

/* What a program of the host has written. 0: nothing, at present or any more. */
static uint32_t write_bytes(struct corral_vsock *v, struct corral_vsock_connection *c,
                            const struct corral_chain *chain)
{
    const uint32_t room = corral_vsock_room(c);
    if (!room) {
        c->owes |= c->asked ? 0 : OWES_CREDIT_REQUEST;
        c->asked = true;
        return 0;
    }
    struct iovec iov[ONCE];
    struct msghdr message = {.msg_iov = iov};
    message.msg_iovlen = behind_header(chain, room < MOST ? room : MOST, iov);
    size_t asked = 0;
    for (size_t i = 0; i < message.msg_iovlen; i++)
        asked += iov[i].iov_len;
    const ssize_t got = asked ? recvmsg(c->fd, &message, MSG_DONTWAIT) : -1;
    if (got < 0 && (!asked || errno == EAGAIN || errno == EINTR)) {
        c->readable = asked && errno == EINTR;
        return 0;
    }
    if (got <= 0) {
        c->ended = true;
        c->readable = false;
        c->hung_up |= got < 0;
        c->owes |= OWES_SHUTDOWN;
        return 0;
    }
    /* A stream that gave less than was asked for has no more; its end is an event of its own. */
    c->readable = (size_t)got == asked || c->hung_up || c->may_end;
    c->sent += got;
    corral_vsock_count(&v->stats.to_guest, got);
    return write_packet(v, chain, c, VIRTIO_VSOCK_OP_RW, 0, got);
}

static uint32_t write_shutdown(struct corral_vsock *v, struct corral_vsock_connection *c,
                               const struct corral_chain *chain)
{
    c->owes &= ~OWES_SHUTDOWN;
    if (c->ended || c->guest_ended & CORRAL_VSOCK_NO_RECEIVE)
        c->told |= CORRAL_VSOCK_NO_SEND;
    if (c->hung_up)
        c->told |= CORRAL_VSOCK_NO_RECEIVE;
    if (c->told == CORRAL_VSOCK_BOTH)
        corral_vsock_close_socket(v, c);
    return write_packet(v, chain, c, VIRTIO_VSOCK_OP_SHUTDOWN, c->told, 0);
}

/* The next packet of a connection. 0: there is none after all. */
static uint32_t write_next(struct corral_vsock *v, struct corral_vsock_connection *c,
                           const struct corral_chain *chain)
{
    static const struct {
        unsigned owes;
        uint16_t operation;
    } first[] = {{OWES_REQUEST, VIRTIO_VSOCK_OP_REQUEST}, {OWES_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE}},
      last[] = {{OWES_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
                {OWES_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE}};
    for (unsigned i = 0; i < 2; i++)
        if (c->owes & first[i].owes) {
            c->owes &= ~first[i].owes;
            return write_packet(v, chain, c, first[i].operation, 0, 0);
        }
    if (c->state != CORRAL_VSOCK_OPEN) {
        c->owes = 0;
        return 0;
    }
    if (c->readable && !c->ended && !(c->guest_ended & CORRAL_VSOCK_NO_RECEIVE)) {
        const uint32_t size = write_bytes(v, c, chain);
        if (size)
            return size;
    }
    if (c->owes & OWES_SHUTDOWN)
        return write_shutdown(v, c, chain);
    for (unsigned i = 0; i < 2; i++)
        if (c->owes & last[i].owes) {
            c->owes &= ~last[i].owes;
            return write_packet(v, chain, c, last[i].operation, 0, 0);
        }
    return 0;
}

static bool wants_more(const struct corral_vsock_connection *c)
{
    if (c->owes)
        return true;
    return c->state == CORRAL_VSOCK_OPEN && c->readable && !c->ended && (corral_vsock_room(c) || !c->asked) &&
           !(c->guest_ended & CORRAL_VSOCK_NO_RECEIVE);
}

/* Bytes of the next packet, written into the chain; 0: there is none. */
static uint32_t write_any(struct corral_vsock *v, const struct corral_chain *chain)
{
    if (v->n_resets)
        return write_reset(v, chain);
    struct corral_vsock_connection *c;
    while ((c = corral_vsock_next_due(v))) {
        const uint32_t size = write_next(v, c, chain);
        if (wants_more(c))
            corral_vsock_is_due(v, c);
        if (size)
            return size;
    }
    return 0;
}

static bool pop(struct corral_vsock *v)
{
    const int got = v->to_guest_held ? 1 : corral_virtq_pop(&v->rx.vq, &v->to_guest);
    if (got < 0)
        corral_worker_break(&v->worker);
    v->to_guest_held = got > 0;
    return got > 0;
}

void corral_vsock_give(struct corral_vsock *v)
{
    bool any = false;
    for (unsigned i = 0; i < v->rx.vq.size && corral_vsock_has_more(v) && !corral_worker_stopping(&v->worker);
         i++) {
        if (!pop(v))
            break;
        uint32_t size = 0; /* of a buffer that is too small for a packet */
        if (v->to_guest.write_size >= HEADER && !(size = write_any(v, &v->to_guest)))
            break;
        v->to_guest_held = false;
        corral_virtq_push(&v->rx.vq, v->to_guest.head, size);
        any = true;
    }
    if (any) {
        corral_virtq_publish(&v->rx.vq);
        corral_worker_tell(&v->worker, &v->rx);
    }
}
