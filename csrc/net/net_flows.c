#include "net_flows.h"

#include <netinet/in.h>
#include <string.h>

#define FLAGS 13 /* where TCP's are in its header */
#define SYN 0x02
#define ACK 0x10

static struct corral_net_flow flow_of(const struct corral_net_packet *p, bool sent)
{
    struct corral_net_flow flow = {.protocol = p->protocol};
    memcpy(flow.address, sent ? p->to : p->from, sizeof flow.address);
    flow.port = sent ? p->destination : p->source;
    flow.own_port = sent ? p->source : p->destination;
    return flow;
}

static unsigned set_of(const struct corral_net_flow *flow)
{
    uint64_t words[2], mixed;
    memcpy(words, flow->address, sizeof words);
    mixed = words[0] ^ words[1] ^ (uint64_t)flow->port << 32 ^ (uint64_t)flow->own_port << 16 ^ flow->protocol;
    return (mixed * 0x9e3779b97f4a7c15ull >> 32) % CORRAL_NET_FLOW_SETS;
}

static bool is_same(const struct corral_net_flow *a, const struct corral_net_flow *b)
{
    return a->last && a->port == b->port && a->own_port == b->own_port && a->protocol == b->protocol &&
           !memcmp(a->address, b->address, sizeof a->address);
}

/* Whether it is TCP's first, which asks for a connection. */
static bool opens(const struct corral_net_packet *p)
{
    return p->size > FLAGS && (p->rest[FLAGS] & (SYN | ACK)) == SYN;
}

void corral_net_came_in(struct corral_net_flows *flows, const uint8_t *frame, uint32_t size)
{
    struct corral_net_packet p;
    if (!corral_net_read_packet(&p, frame, size) || p.is_part)
        return;
    struct corral_net_flow flow = flow_of(&p, false), *set = flows->flow[set_of(&flow)], *to = set;
    for (unsigned i = 0; i < CORRAL_NET_FLOW_WAYS; i++) {
        if (is_same(&set[i], &flow)) {
            set[i].last = ++flows->now ? flows->now : ++flows->now;
            return;
        }
        to = set[i].last < to->last ? &set[i] : to;
    }
    if (p.protocol == IPPROTO_TCP && !opens(&p))
        return;
    flow.last = ++flows->now ? flows->now : ++flows->now;
    *to = flow;
}

bool corral_net_is_answer(const struct corral_net_flows *flows, const struct corral_net_packet *p)
{
    if (p->is_part)
        return false;
    struct corral_net_flow flow = flow_of(p, true);
    const struct corral_net_flow *set = flows->flow[set_of(&flow)];
    for (unsigned i = 0; i < CORRAL_NET_FLOW_WAYS; i++)
        if (is_same(&set[i], &flow))
            return true;
    return false;
}

void corral_net_forget_flows(struct corral_net_flows *flows)
{
    struct corral_net_flow *flow = flows->flow[0];
    if (!flows->now)
        return;
    for (unsigned i = 0; i < CORRAL_NET_FLOW_SETS * CORRAL_NET_FLOW_WAYS; i++)
        if (flow[i].protocol != IPPROTO_TCP)
            flow[i].last = 0;
}
