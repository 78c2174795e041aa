/* A packet of IP in a frame, as the rules of net_filter.h see it. */
#ifndef CORRAL_NET_PACKET_H
#define CORRAL_NET_PACKET_H

#include <stdbool.h>
#include <stdint.h>

/* Addresses of IPv4 are ::ffff:a.b.c.d. */
struct corral_net_packet {
    uint8_t from[16], to[16];
    uint8_t protocol;
    bool has_ports; /* it begins with them: no fragment, and of TCP or UDP */
    bool is_part;   /* a fragment */
    uint16_t source, destination;
    const uint8_t *rest; /* what the protocol's header begins with */
    uint32_t size;
};

static inline uint16_t corral_net_word(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* Of the first `size` bytes of a frame. False: nothing that the rules know to be a packet. */
bool corral_net_read_packet(struct corral_net_packet *p, const uint8_t *frame, uint32_t size);

#endif
