/* The driver's commands (section 5.1.6.5). There is one that this device knows: that the driver has announced
 * itself. */
#include "net_device.h"

#include <errno.h>

/* The acknowledgement is the last byte of a command, the only one that the device writes. */
static uint8_t obey(struct corral_net *n, const struct corral_chain *chain)
{
    uint8_t command[2];
    unsigned have = 0;
    for (unsigned i = 0; i < chain->n_read && have < sizeof command; i++)
        for (size_t at = 0; at < chain->iov[i].iov_len && have < sizeof command; at++)
            command[have++] = ((const uint8_t *)chain->iov[i].iov_base)[at];
    if (have < sizeof command || command[0] != VIRTIO_NET_CTRL_ANNOUNCE ||
        command[1] != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
        return VIRTIO_NET_ERR;
    __atomic_store_n(&n->announce, false, __ATOMIC_SEQ_CST);
    return VIRTIO_NET_OK;
}

bool corral_net_command(struct corral_net *n)
{
    struct corral_served_queue *q = &n->queue[CORRAL_NET_CONTROL];
    struct corral_chain chain;
    unsigned done = 0;
    while (q->ready && done < CORRAL_NET_ROUND) {
        int got = corral_virtq_pop(&q->vq, &chain);
        if (got > 0 && !chain.n_write)
            got = -EPROTO;
        if (got < 0)
            corral_worker_break(&n->worker);
        if (got <= 0)
            break;
        *(uint8_t *)chain.iov[chain.n_read].iov_base = obey(n, &chain);
        corral_virtq_push(&q->vq, chain.head, 1);
        done++;
    }
    if (done) {
        corral_virtq_publish(&q->vq);
        corral_worker_tell(&n->worker, q);
    }
    return done;
}
