/* Where a frame goes. */
#define _GNU_SOURCE
#include "switch.h"

#include <string.h>

#define HEADER 14 /* of Ethernet */
#define TYPE 12   /* where its type is */
#define IPV4 0x0800
#define ARP 0x0806
#define ARP_SIZE 28
#define ARP_SENDER 14 /* the address of IPv4 in it; the card's is 6 bytes before */
#define IPV4_SIZE 20
#define IPV4_SOURCE 12

/* IPv4 and ARP, from the guest's own addresses: what it claims to be others would believe. */
static bool is_its_own(const struct port *from, const uint8_t *frame, size_t size)
{
    const uint8_t *payload = frame + HEADER;
    if (size < HEADER || memcmp(frame + MAC_SIZE, from->mac, MAC_SIZE) != 0)
        return false;
    switch (get16(frame + TYPE)) {
    case IPV4:
        return size >= HEADER + IPV4_SIZE && get32(payload + IPV4_SOURCE) == from->address;
    case ARP:
        return size >= HEADER + ARP_SIZE && memcmp(payload + ARP_SENDER - MAC_SIZE, from->mac, MAC_SIZE) == 0 &&
               (get32(payload + ARP_SENDER) == from->address ||
                get32(payload + ARP_SENDER) == 0); /* a probe has none */
    default:
        return false;
    }
}

void switch_frame(struct switch_state *state, struct port *from, const uint8_t *frame, size_t size)
{
    static uint8_t answer[FRAME_MAX];
    if (!is_its_own(from, frame, size))
        return;
    const size_t answered = switch_answer(state, frame, size, answer);
    if (answered) {
        port_queue(from, answer, answered);
        return;
    }
    const bool to_many = frame[0] & 1;
    for (struct port *port = state->ports; port < state->ports + SWITCH_PORTS; port++)
        if (port->fd >= 0 && port->is_known && port != from &&
            (to_many || memcmp(port->mac, frame, MAC_SIZE) == 0))
            port_queue(port, frame, size);
}
