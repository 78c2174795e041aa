/* Inside of ports.h: a port's two streams, between its queues and its descriptors. All of it is the worker's, but
 * for what is atomic. */
#ifndef CORRAL_PORT_STREAM_H
#define CORRAL_PORT_STREAM_H

#include "ports.h"

/* A chain that is with us until its descriptor takes it, or has something for it. */
struct corral_held_chain {
    bool taken;
    struct corral_chain chain;
    unsigned at; /* the segment that comes next; what is done of it is cut off */
};

struct corral_port {
    int source, sink;
    bool source_socket, sink_socket;
    bool source_blocks, sink_blocks;     /* a call may wait: poll() is asked before each */
    bool source_ended, stuck;            /* stuck: the sink takes nothing at present */
    struct corral_served_queue *rx, *tx; /* NULL: the driver does not use it */
    struct corral_held_chain to_guest, from_guest;
    uint32_t sent_before;             /* bytes of the next chain from the guest that its sink has had already */
    int sink_error;                   /* atomic */
    uint64_t taken, written, dropped; /* atomic */
};

struct corral_ports {
    struct corral_queue_worker worker;
    struct corral_ports_config config;
    struct corral_port_control control;
    struct corral_port port[CORRAL_PORTS_MAX];
    struct corral_served_queue queues[CORRAL_PORT_QUEUES(CORRAL_PORTS_MAX)];
    bool held;               /* atomic: no source is read but that of port 0 */
    uint32_t asked, flushed; /* atomic: flushes that were asked for, and the last one that is over */
};

/* Finds out what the port's descriptors are. */
void corral_port_open(struct corral_port *port, int source_fd, int sink_fd);

/* The driver begins anew: what was with us is forgotten. */
void corral_port_begin(struct corral_port *port, int source_fd);

/* A chain of `q`, which may be NULL. False: there is none, or the queue is broken. */
bool corral_ports_pop(struct corral_ports *p, struct corral_served_queue *q, struct corral_chain *chain);

/* Shows the driver what was pushed. */
void corral_ports_give_back(struct corral_ports *p, struct corral_served_queue *q);

/* Each does a queue's worth of work, and waits for nothing. */
void corral_port_serve_tx(struct corral_ports *p, struct corral_port *port);
void corral_port_serve_rx(struct corral_ports *p, unsigned index);

/* Bytes of the chain at the head of the transmit queue that the sink has had. */
uint32_t corral_port_sent(const struct corral_port *port);

/* Whether there is something for the sink. */
bool corral_port_has_output(const struct corral_port *port);

/* Whether a program of the guest reads this port, and the source may have something for it. */
bool corral_port_wants_input(const struct corral_ports *p, unsigned index);

/* The sink gets no more. */
void corral_port_lose_sink(struct corral_ports *p, struct corral_port *port, int error);

#endif
