/* Packets that come from the guest: each is read once, checked, and answered or taken. */
#define _GNU_SOURCE
#include "vsock_device.h"

#include <endian.h>
#include <string.h>

/* A packet's header, in this host's order, and where its bytes are. */
struct packet {
    uint64_t source, destination;
    uint32_t guest_port, host_port, size, flags, room, taken;
    uint16_t type, operation;
    struct iovec *iov; /* `size` bytes */
    unsigned n;
};

bool corral_vsock_can_take(const struct corral_vsock *v)
{
    return v->n_resets < CORRAL_VSOCK_RESETS_GUEST && corral_vsock_can_keep(v);
}

/* Copies a header out of a chain, and leaves what follows of it in its first segments. False: it is too short, or
 * says that there is more than there is. */
static bool read_packet(struct corral_chain *chain, struct packet *p)
{
    struct virtio_vsock_hdr header;
    uint8_t *to = (uint8_t *)&header;
    size_t left = sizeof header;
    unsigned at = 0;
    if (chain->read_size < sizeof header)
        return false;
    while (left) {
        struct iovec *segment = &chain->iov[at];
        const size_t part = segment->iov_len < left ? segment->iov_len : left;
        memcpy(to, segment->iov_base, part);
        to += part;
        left -= part;
        segment->iov_base = (uint8_t *)segment->iov_base + part;
        segment->iov_len -= part;
        at += !segment->iov_len;
    }
    *p = (struct packet){.source = le64toh(header.src_cid),
                         .destination = le64toh(header.dst_cid),
                         .guest_port = le32toh(header.src_port),
                         .host_port = le32toh(header.dst_port),
                         .size = le32toh(header.len),
                         .flags = le32toh(header.flags),
                         .room = le32toh(header.buf_alloc),
                         .taken = le32toh(header.fwd_cnt),
                         .type = le16toh(header.type),
                         .operation = le16toh(header.op),
                         .iov = chain->iov + at};
    if (p->size > chain->read_size - sizeof header)
        return false;
    left = p->size;
    for (; left; p->n++) {
        struct iovec *segment = &p->iov[p->n];
        segment->iov_len = segment->iov_len < left ? segment->iov_len : left;
        left -= segment->iov_len;
    }
    return true;
}

static void refuse(struct corral_vsock *v, const struct packet *p)
{
    if (p->operation != VIRTIO_VSOCK_OP_RST)
        corral_vsock_refuse(v, p->source, p->guest_port, p->host_port, p->type);
}

static void refuse_connection(struct corral_vsock *v, struct corral_vsock_connection *c, const struct packet *p)
{
    corral_vsock_count(&v->stats.refused, c->state != CORRAL_VSOCK_OPEN);
    corral_vsock_remove(v, c);
    refuse(v, p);
}

static void take_request(struct corral_vsock *v, const struct packet *p)
{
    struct corral_vsock_connection *c =
        v->config.connector < 0 ? NULL : corral_vsock_add(v, CORRAL_VSOCK_ASKING_HOST, -1);
    if (!c) {
        corral_vsock_count(&v->stats.refused, 1);
        refuse(v, p);
        return;
    }
    corral_vsock_name(v, c, p->guest_port, p->host_port);
    c->room = p->room;
    c->taken = p->taken;
    corral_vsock_ask_host(v, c);
}

static void take_bytes(struct corral_vsock *v, struct corral_vsock_connection *c, const struct packet *p)
{
    if (c->state != CORRAL_VSOCK_OPEN || c->guest_ended & CORRAL_VSOCK_NO_SEND ||
        p->size > CORRAL_VSOCK_WINDOW - (c->received - c->forwarded)) { /* more than it had credit for */
        refuse_connection(v, c, p);
        return;
    }
    c->received += p->size;
    corral_vsock_count(&v->stats.from_guest, p->size);
    corral_vsock_forward(v, c, p->iov, p->n);
}

static void take_packet(struct corral_vsock *v, const struct packet *p)
{
    struct corral_vsock_connection *c = NULL;
    if (p->source == v->config.cid && p->destination == CORRAL_VSOCK_HOST && p->type == VIRTIO_VSOCK_TYPE_STREAM)
        c = corral_vsock_find(v, p->guest_port, p->host_port);
    else if (p->operation == VIRTIO_VSOCK_OP_REQUEST) { /* nothing else is there to connect to */
        refuse(v, p);
        return;
    }
    if (!c && p->operation == VIRTIO_VSOCK_OP_REQUEST) {
        take_request(v, p);
        return;
    }
    if (!c) {
        refuse(v, p);
        return;
    }
    c->room = p->room;
    c->taken = p->taken;
    if (corral_vsock_room(c))
        c->asked = false;
    if (c->readable && !c->asked)
        corral_vsock_is_due(v, c);
    switch (p->operation) {
    case VIRTIO_VSOCK_OP_RESPONSE:
        if (c->state == CORRAL_VSOCK_ASKING_GUEST)
            corral_vsock_tell_port(v, c);
        else
            refuse_connection(v, c, p);
        break;
    case VIRTIO_VSOCK_OP_RST:
        refuse_connection(v, c, p);
        break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        c->guest_ended |= p->flags & CORRAL_VSOCK_BOTH;
        if (c->state == CORRAL_VSOCK_OPEN)
            corral_vsock_end(v, c);
        else
            refuse_connection(v, c, p);
        break;
    case VIRTIO_VSOCK_OP_RW:
        take_bytes(v, c, p);
        break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        corral_vsock_owe(v, c, OWES_CREDIT);
        break;
    default: /* a request for what is connected, too */
        refuse_connection(v, c, p);
    }
}

void corral_vsock_take(struct corral_vsock *v)
{
    struct corral_chain chain;
    struct packet packet;
    bool any = false;
    for (unsigned i = 0; i < v->tx.vq.size && corral_vsock_can_take(v) && !corral_worker_stopping(&v->worker);
         i++) {
        const int got = corral_virtq_pop(&v->tx.vq, &chain);
        if (got < 0)
            corral_worker_break(&v->worker);
        if (got <= 0)
            break;
        if (read_packet(&chain, &packet)) /* what is no packet is as good as none */
            take_packet(v, &packet);
        corral_virtq_push(&v->tx.vq, chain.head, 0);
        any = true;
    }
    if (any) {
        corral_virtq_publish(&v->tx.vq);
        corral_worker_tell(&v->worker, &v->tx);
    }
}
