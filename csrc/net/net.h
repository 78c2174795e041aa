/* virtio-net (virtio 1.2, section 5.1): frames between a driver's queues and a descriptor of the host, which is a
 * stream of frames with their lengths before them (QEMU's "stream" and "socket", passt), or a tap device. */
#ifndef CORRAL_NET_H
#define CORRAL_NET_H

#include "net_filter.h"
#include "queue_worker.h"

/* --- for Python --- */

#define CORRAL_NET_QUEUES 3        /* of received frames, of frames to send, of commands */
#define CORRAL_NET_FRAME_MAX 65550 /* bytes: an IP packet of 64 KiB behind an Ethernet header */
#define CORRAL_NET_LINK_UP 1       /* VIRTIO_NET_S_LINK_UP */
#define CORRAL_NET_HEADER 12       /* bytes: struct virtio_net_hdr_mrg_rxbuf */

struct corral_net_config {
    struct corral_worker_config worker;
    int fd;       /* that does not block; -1: there is nothing at the other end */
    bool tap;     /* each read and write is a frame behind a header of CORRAL_NET_HEADER bytes; else a stream */
    bool trusted; /* the checksums of what comes from there are right, and the guest need not look */
    int dump_fd;  /* a regular file that gets what passes, as blocks of pcapng; -1: none */
    uint64_t dump_most;                     /* bytes of them; 0: any number */
    const struct corral_net_filter *filter; /* what may be sent, for the making to copy; NULL: anything */
};

struct corral_net_stats {
    uint64_t sent, sent_bytes, received, received_bytes; /* frames, and bytes of frames */
    uint64_t sent_dropped;     /* with nothing at the other end, or that did not take them */
    uint64_t received_dropped; /* that the driver's buffers cannot hold */
    uint64_t refused;          /* that make no sense */
    uint64_t filtered;         /* that may not be sent */
    uint64_t not_dumped;       /* that passed after the file took no more */
};

struct corral_net;

/* NULL with errno. */
struct corral_net *corral_net_create(const struct corral_net_config *config, const struct corral_ram *ram,
                                     struct corral_virtio_irq *irq);

/* Serves the queues. `resumes`: those of a driver that a device has had before, which is asked to announce itself.
 * 0; -EBUSY: runs already; -EINVAL, -EFAULT: the queues. */
int corral_net_start(struct corral_net *n, uint64_t features, const struct corral_virtq_setup *queues,
                     const int *doorbells, bool resumes);

/* From here on these rules hold, for the next frame too; connections that the guest has opened are judged by them
 * as new ones are. */
void corral_net_set_filter(struct corral_net *n, const struct corral_net_filter *filter);

void corral_net_request_stop(struct corral_net *n);

/* As corral_worker_stop. */
int corral_net_stop(struct corral_net *n);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_net_destroy(struct corral_net *n);

/* Whether the driver has broken a queue. */
bool corral_net_failed(const struct corral_net *n);

/* The field of that name in the configuration space: whether there is a link, and whether to announce. */
uint16_t corral_net_status(const struct corral_net *n);

void corral_net_stats(const struct corral_net *n, struct corral_net_stats *stats);

#endif
