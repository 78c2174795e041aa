#include "net_filter.h"

#include <netinet/in.h>
#include <string.h>

#define ETHERNET 14 /* bytes of headers */
#define IPV4 20
#define IPV6 40
#define UDP 8
#define DNS 12
#define TYPE_ARP 0x0806
#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd

/* A packet of IP as the filter sees it. */
struct packet {
    uint8_t from[16], to[16];
    uint8_t protocol;
    bool has_ports; /* it begins with them: no fragment, and of TCP or UDP */
    bool is_part;   /* a fragment */
    uint16_t source, destination;
    const uint8_t *rest; /* what the protocol's header begins with */
    uint32_t size;
};

static uint16_t word(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void map(uint8_t *to, const uint8_t *ipv4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(to, mapped, sizeof mapped);
    memcpy(to + sizeof mapped, ipv4, 4);
}

static bool read_ports(struct packet *p)
{
    if (p->is_part || (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP))
        return true;
    if (p->size < UDP)
        return false;
    p->has_ports = true;
    p->source = word(p->rest);
    p->destination = word(p->rest + 2);
    return true;
}

/* Options may name another way to go: a packet that has some does not pass. */
static bool read_ipv4(struct packet *p, const uint8_t *at, uint32_t size)
{
    if (size < IPV4 || at[0] != 0x45)
        return false;
    map(p->from, at + 12);
    map(p->to, at + 16);
    p->protocol = at[9];
    p->is_part = word(at + 6) & 0x3fff; /* more of them, or not the first */
    p->rest = at + IPV4;
    p->size = size - IPV4;
    return read_ports(p);
}

static bool read_ipv6(struct packet *p, const uint8_t *at, uint32_t size)
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

/* False: nothing that the filter knows to be a packet. */
static bool read_packet(struct packet *p, const uint8_t *frame, uint32_t size)
{
    *p = (struct packet){0};
    if (size < ETHERNET)
        return false;
    uint16_t type = word(frame + 12);
    return (type == TYPE_IPV4 && read_ipv4(p, frame + ETHERNET, size - ETHERNET)) ||
           (type == TYPE_IPV6 && read_ipv6(p, frame + ETHERNET, size - ETHERNET));
}

static bool is_within(const uint8_t *address, const uint8_t *of, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return !memcmp(address, of, whole) && (!rest || !((address[whole] ^ of[whole]) >> (8 - rest)));
}

static bool fits(const struct corral_net_rule *r, const struct packet *p)
{
    if (!is_within(p->to, r->address, r->prefix))
        return false;
    if (!r->first && !r->last)
        return true;
    /* A part of a packet may be one to that port. */
    return p->has_ports ? p->destination >= r->first && p->destination <= r->last : r->denies && p->is_part;
}

/* What makes a link work: finding neighbours, and addresses. None of it is passed on by who gets it. */
static bool is_of_the_link(const struct packet *p)
{
    static const uint8_t broadcast[16] = {[10] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    bool all_nodes = p->to[0] == 0xff && p->to[1] == 0x02, link = p->to[0] == 0xfe && (p->to[1] & 0xc0) == 0x80;
    if (p->protocol == IPPROTO_ICMPV6 && (all_nodes || link) && p->size)
        return (p->rest[0] >= 130 && p->rest[0] <= 136) || p->rest[0] == 143;
    if (!p->has_ports || p->protocol != IPPROTO_UDP)
        return false;
    return (p->source == 68 && p->destination == 67 && !memcmp(p->to, broadcast, sizeof broadcast)) ||
           (p->source == 546 && p->destination == 547 && all_nodes);
}

/* Whether the resolver is asked one thing, a name of the list. */
static bool asks_for_a_name(const struct corral_net_filter *f, const struct packet *p)
{
    if (p->protocol != IPPROTO_UDP || !p->has_ports || p->destination != 53 || memcmp(p->to, f->resolver, 16))
        return false;
    if (p->size < UDP + DNS || word(p->rest + UDP + 4) != 1)
        return false;
    const uint8_t *question = p->rest + UDP + DNS;
    uint32_t size = p->size - UDP - DNS;
    for (unsigned i = 0; i < f->n_names; i++) {
        const uint8_t *name = f->names[i];
        uint32_t at = 0;
        for (; at < size && at < CORRAL_NET_NAME; at++) {
            uint8_t byte = question[at];
            byte += byte >= 'A' && byte <= 'Z' ? 'a' - 'A' : 0;
            if (byte != name[at])
                break;
            if (!byte) /* the root: a name's last label; there are no zeros within the names of the list */
                return true;
        }
    }
    return false;
}

/* --- answers --- */

static struct corral_net_flow flow_of(const struct packet *p, bool sent)
{
    struct corral_net_flow flow = {.protocol = p->protocol, .used = true};
    memcpy(flow.address, sent ? p->to : p->from, sizeof flow.address);
    flow.port = sent ? p->destination : p->source;
    flow.own_port = sent ? p->source : p->destination;
    return flow;
}

static unsigned place_of(const struct corral_net_flow *flow)
{
    uint64_t words[2], mixed;
    memcpy(words, flow->address, sizeof words);
    mixed = words[0] ^ words[1] ^ (uint64_t)flow->port << 32 ^ (uint64_t)flow->own_port << 16 ^ flow->protocol;
    return (mixed * 0x9e3779b97f4a7c15ull >> 32) % CORRAL_NET_FLOWS;
}

static bool is_same(const struct corral_net_flow *a, const struct corral_net_flow *b)
{
    return a->used && a->port == b->port && a->own_port == b->own_port && a->protocol == b->protocol &&
           !memcmp(a->address, b->address, sizeof a->address);
}

void corral_net_came_in(struct corral_net_flows *flows, const uint8_t *frame, uint32_t size)
{
    struct packet p;
    if (!read_packet(&p, frame, size) || p.is_part)
        return;
    struct corral_net_flow flow = flow_of(&p, false);
    flows->flow[place_of(&flow)] = flow;
}

bool corral_net_may_send(const struct corral_net_filter *f, const struct corral_net_flows *flows,
                         const uint8_t *frame, uint32_t size)
{
    struct packet p;
    if (size >= ETHERNET && word(frame + 12) == TYPE_ARP)
        return true;
    if (!read_packet(&p, frame, size))
        return false;
    if (is_of_the_link(&p))
        return true;
    bool allowed = f->otherwise;
    for (unsigned i = 0; i < f->n_rules; i++) {
        if (!fits(&f->rules[i], &p))
            continue;
        if (f->rules[i].denies)
            return false;
        allowed = true;
    }
    if (allowed || asks_for_a_name(f, &p))
        return true;
    struct corral_net_flow flow = flow_of(&p, true);
    return !p.is_part && is_same(&flows->flow[place_of(&flow)], &flow);
}
