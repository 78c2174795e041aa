/* virtio-console with several ports (virtio 1.2, section 5.3): streams of bytes between programs of the guest and
 * descriptors of this process.
 *
 * One thread serves all queues. Bytes go between guest memory and descriptors without a copy of ours. What a sink
 * does not take waits in the guest, whose program waits then; what a program does not read is not taken from its
 * source. */
#ifndef CORRAL_PORTS_H
#define CORRAL_PORTS_H

#include "port_control.h"
#include "queue_worker.h"

#include <stdbool.h>
#include <stdint.h>

/* A receive and a transmit queue for each port, and two of control messages: ports 0, control, 1, 2... */
#define CORRAL_PORT_QUEUES(ports) (2 * ((ports) + 1))

/* --- for Python --- */

struct corral_port_ends {
    char name[CORRAL_PORT_NAME];
    int source_fd; /* what the guest reads; -1: nothing */
    int sink_fd;   /* where goes what it writes; -1: nowhere */
};

struct corral_ports_config {
    struct corral_worker_config worker;
    unsigned n; /* ports, 1 to CORRAL_PORTS_MAX */
    struct corral_port_ends port[CORRAL_PORTS_MAX];
    bool holds;   /* sources but that of port 0 are not read before corral_ports_release() */
    int event_fd; /* an eventfd that is signalled when a sink failed or a flush is over */
};

struct corral_port_state {
    bool open;               /* by a program of the guest */
    int sink_error;          /* errno of the sink, which gets no more then; EPIPE: its reader is gone. 0: none */
    uint64_t taken, written; /* bytes from the source to the guest, and from the guest to the sink */
    uint64_t dropped;        /* bytes of the guest that had nowhere to go */
};

/* What a stopped device knows of its driver beside the queues, whose used rings tell the rest. */
struct corral_ports_saved {
    struct corral_port_talk talk[CORRAL_PORTS_MAX];
    uint32_t sent[CORRAL_PORTS_MAX]; /* bytes of the next chain to each sink that it has had */
};

struct corral_ports;

/* The descriptors stay the caller's. NULL with errno. */
struct corral_ports *corral_ports_create(const struct corral_ports_config *config, const struct corral_ram *ram,
                                         struct corral_virtio_irq *irq);

/* Serves CORRAL_PORT_QUEUES(n) queues, which may have one doorbell. `saved`: goes on with a driver that another
 * device, or this one, has had; NULL: with one that begins. 0; -EBUSY: runs already; -EINVAL, -EFAULT: a queue, or
 * a state that there is not. */
int corral_ports_start(struct corral_ports *p, uint64_t features, const struct corral_virtq_setup *queues,
                       const int *doorbells, const struct corral_ports_saved *saved);

/* Only after stop() gave 0. */
void corral_ports_save(const struct corral_ports *p, struct corral_ports_saved *saved);

void corral_ports_request_stop(struct corral_ports *p);

/* 0: nothing of ours touches guest memory any more, and start may follow. -ETIMEDOUT: a descriptor keeps the
 * thread; call again. Waits for CORRAL_WORKER_STOP_NS from the request on, in any state. */
int corral_ports_stop(struct corral_ports *p);

/* Stops first. -ETIMEDOUT as above, and then nothing is freed. NULL is allowed. */
int corral_ports_destroy(struct corral_ports *p);

/* From here on the sources that were held are read. From any thread, in any state. */
void corral_ports_release(struct corral_ports *p);

/* Asks for a signal when all that the guest has written by now is in its sinks. */
void corral_ports_flush(struct corral_ports *p);

/* Whether it is. Also: it never will be, since nothing is served any more. */
bool corral_ports_flushed(const struct corral_ports *p);

/* Whether the driver has broken a queue. */
bool corral_ports_failed(const struct corral_ports *p);

void corral_ports_state(const struct corral_ports *p, unsigned port, struct corral_port_state *state);

#endif
