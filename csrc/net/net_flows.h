/* Who has sent something to the guest, which may be answered then. */
#ifndef CORRAL_NET_FLOWS_H
#define CORRAL_NET_FLOWS_H

#include "net_packet.h"

#define CORRAL_NET_FLOW_SETS 1024
#define CORRAL_NET_FLOW_WAYS 8

/* One end of a conversation, as seen by the guest. */
struct corral_net_flow {
    uint8_t address[16];
    uint16_t port, own_port; /* 0 where the protocol has none */
    uint8_t protocol;
    uint32_t last; /* when it was seen last, by `now`; 0: there is none */
};

/* Those seen last, of each set. A connection of TCP is there from the packet on that opens it: one that the guest
 * has opened is none of these, whatever its other end sends. */
struct corral_net_flows {
    uint32_t now;
    struct corral_net_flow flow[CORRAL_NET_FLOW_SETS][CORRAL_NET_FLOW_WAYS];
};

/* A frame has come in. */
void corral_net_came_in(struct corral_net_flows *flows, const uint8_t *frame, uint32_t size);

/* Whether a packet to be sent is of a conversation that began with one that came in. */
bool corral_net_is_answer(const struct corral_net_flows *flows, const struct corral_net_packet *p);

/* Forgets all but connections of TCP: what the guest may have begun itself. */
void corral_net_forget_flows(struct corral_net_flows *flows);

#endif
