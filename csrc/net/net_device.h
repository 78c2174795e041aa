/* What the parts of virtio-net know of the device. One thread serves all of its queues. */
#ifndef CORRAL_NET_DEVICE_H
#define CORRAL_NET_DEVICE_H

#include "net.h"

#include <linux/virtio_net.h>
#include <pthread.h>

#define CORRAL_NET_ROUND 32 /* frames each way, before the other way has its turn */

/* Of a frame that is sent: the bytes that are copied out of the guest before anything looks at them. */
#define CORRAL_NET_HEAD 192
#define CORRAL_NET_SEGMENTS 1024 /* in one call: UIO_MAXIOV */

/* Bytes of frames in one call of a stream. A Unix socket has them in one piece then, and a frame that is larger in
 * two: a reader that comes meanwhile finds whole frames, but for the second piece of a large one. passt of 2023
 * depends on it: it forgets a length of which it has read a part, or a frame of which the rest comes in parts. */
#define CORRAL_NET_PIECE 36000

#define CORRAL_NET_STAGE (4 * (CORRAL_NET_FRAME_MAX + CORRAL_NET_HEADER))

enum { CORRAL_NET_RX, CORRAL_NET_TX, CORRAL_NET_CONTROL };

/* A frame on its way out: chain `head`, and segments of the batch up to `end`. */
struct corral_net_outgoing {
    uint16_t head;
    uint32_t size; /* of the frame; 0: it is not sent */
    uint32_t lead; /* bytes before it */
    unsigned end;
    uint8_t copied[CORRAL_NET_HEADER + CORRAL_NET_HEAD];
};

struct corral_net_batch {
    unsigned n, n_iov;
    uint32_t bytes; /* of frames, with what is before them */
    struct corral_net_outgoing frame[CORRAL_NET_ROUND];
    struct iovec iov[CORRAL_NET_SEGMENTS];
};

/* The received frame that is being put into the driver's buffers, and which ones it has so far. */
struct corral_net_placed {
    unsigned n;
    uint64_t size; /* bytes that they hold */
    struct corral_chain first;
    uint16_t head[CORRAL_VIRTQ_SIZE_MAX];
    uint32_t written[CORRAL_VIRTQ_SIZE_MAX];
};

struct corral_net {
    struct corral_queue_worker worker;
    struct corral_served_queue queue[CORRAL_NET_QUEUES];
    struct corral_net_config config;
    struct corral_net_stats stats; /* atomic, each */
    bool link;                     /* atomic: there is another end */
    bool announce;                 /* atomic: the driver is asked to */
    bool blocked;                  /* the other end takes no more at present */
    bool starved;                  /* a received frame waits for buffers */
    bool dumps;                    /* into config.dump_fd */
    uint64_t dump_left;            /* bytes that may go there yet */
    pthread_mutex_t rules;         /* held for these three, and for nothing that waits */
    bool filters;                  /* there are rules: */
    struct corral_net_filter filter;
    struct corral_net_flows flows;
    struct corral_net_batch batch;
    struct corral_net_placed placed;
    /* Of the frame of which a stream has taken the first part: what it has not. */
    uint32_t rest_at, rest_end;
    uint8_t rest[sizeof(uint32_t) + CORRAL_NET_FRAME_MAX];
    /* Received and not delivered. */
    uint32_t stage_at, stage_end;
    uint8_t stage[CORRAL_NET_STAGE];
};

static inline void corral_net_count(uint64_t *counter, uint64_t amount)
{
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

static inline bool corral_net_has(const struct corral_net *n, unsigned feature)
{
    return n->worker.features >> feature & 1;
}

/* One round of a queue; whether anything was done. */
bool corral_net_send(struct corral_net *n);
bool corral_net_receive(struct corral_net *n);
bool corral_net_command(struct corral_net *n);

/* A frame has passed, for those who look at that. */
void corral_net_passed(struct corral_net *n, bool sent, const struct iovec *iov, unsigned n_iov, size_t skip);

/* The other end is gone for good, and the driver is told. */
void corral_net_lose_link(struct corral_net *n);

#endif
