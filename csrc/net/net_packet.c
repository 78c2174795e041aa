#include "net_packet.h"

#include <netinet/in.h>
#include <string.h>

#define ETHERNET 14 /* bytes of headers */
#define IPV4 20
#define IPV6 40
#define PORTS 8 /* bytes that TCP and UDP have at least */
#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd

static void map(uint8_t *to, const uint8_t *ipv4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(to, mapped, sizeof mapped);
    memcpy(to + sizeof mapped, ipv4, 4);
}

static bool read_ports(struct corral_net_packet *p)
{
    if (p->is_part || (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP))
        return true;
    if (p->size < PORTS)
        return false;
    p->has_ports = true;
    p->source = corral_net_word(p->rest);
    p->destination = corral_net_word(p->rest + 2);
    return true;
}

/* Options may name another way to go: a packet that has some does not pass. */
static bool read_ipv4(struct corral_net_packet *p, const uint8_t *at, uint32_t size)
{
    if (size < IPV4 || at[0] != 0x45)
        return false;
    map(p->from, at + 12);
    map(p->to, at + 16);
    p->protocol = at[9];
    p->is_part = corral_net_word(at + 6) & 0x3fff; /* more of them, or not the first */
    p->rest = at + IPV4;
    p->size = size - IPV4;
    return read_ports(p);
}

static bool read_ipv6(struct corral_net_packet *p, const uint8_t *at, uint32_t size)
{
    if (size < IPV6 || at[0] >> 4 != 6)
        return false;
    memcpy(p->from, at + 8, 16);
    memcpy(p->to, at + 24, 16);
    p->protocol = at[6];
    p->rest = at + IPV6;
    p->size = size - IPV6;
    while (p->protocol == IPPROTO_HOPOPTS || p->protocol == IPPROTO_DSTOPTS) {
        uint32_t length = p->size < 8 ? 0 : 8 * (p->rest[1] + 1u);
        if (!length || length > p->size)
            return false;
        p->protocol = p->rest[0];
        p->rest += length;
        p->size -= length;
    }
    if (p->protocol == IPPROTO_ROUTING)
        return false;
    p->is_part = p->protocol == IPPROTO_FRAGMENT;
    return read_ports(p);
}

bool corral_net_read_packet(struct corral_net_packet *p, const uint8_t *frame, uint32_t size)
{
    *p = (struct corral_net_packet){0};
    if (size < ETHERNET)
        return false;
    uint16_t type = corral_net_word(frame + 12);
    return (type == TYPE_IPV4 && read_ipv4(p, frame + ETHERNET, size - ETHERNET)) ||
           (type == TYPE_IPV6 && read_ipv6(p, frame + ETHERNET, size - ETHERNET));
}
