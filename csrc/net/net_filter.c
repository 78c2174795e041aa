#include "net_filter.h"
#include "net_packet.h"

#include <netinet/in.h>
#include <string.h>

#define ETHERNET 14 /* bytes of headers */
#define UDP 8
#define DNS 12
#define TYPE_ARP 0x0806

static bool is_within(const uint8_t *address, const uint8_t *of, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return !memcmp(address, of, whole) && (!rest || !((address[whole] ^ of[whole]) >> (8 - rest)));
}

static bool fits(const struct corral_net_rule *r, const struct corral_net_packet *p)
{
    if (!is_within(p->to, r->address, r->prefix))
        return false;
    if (!r->first && !r->last)
        return true;
    /* A part of a packet may be one to that port. */
    return p->has_ports ? p->destination >= r->first && p->destination <= r->last : r->denies && p->is_part;
}

/* What makes a link work: finding neighbours, and addresses. None of it is passed on by who gets it. */
static bool is_of_the_link(const struct corral_net_packet *p)
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
static bool asks_for_a_name(const struct corral_net_filter *f, const struct corral_net_packet *p)
{
    if (p->protocol != IPPROTO_UDP || !p->has_ports || p->destination != 53 || memcmp(p->to, f->resolver, 16))
        return false;
    if (p->size < UDP + DNS || corral_net_word(p->rest + UDP + 4) != 1)
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

/* Whether the guest may answer on that port, if it was asked there. TCP's are known by their first packet. Of all
 * else it cannot be told who began, where anything may come in. */
static bool may_be_answered(const struct corral_net_filter *f, const struct corral_net_packet *p)
{
    if (f->answers_all || p->protocol == IPPROTO_TCP)
        return true;
    for (unsigned i = 0; i < f->n_published; i++)
        if (p->has_ports && f->published[i] == p->source)
            return true;
    return false;
}

bool corral_net_may_send(const struct corral_net_filter *f, const struct corral_net_flows *flows,
                         const uint8_t *frame, uint32_t size)
{
    struct corral_net_packet p;
    if (size >= ETHERNET && corral_net_word(frame + 12) == TYPE_ARP)
        return true;
    if (!corral_net_read_packet(&p, frame, size))
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
    return may_be_answered(f, &p) && corral_net_is_answer(flows, &p);
}
