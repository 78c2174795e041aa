/* What the switch answers at its own address: who has it (ARP), and which address a guest's name has (DNS, RFC
 * 1035). A name that no guest has is refused, so that the asker goes on to its next resolver. */
#define _GNU_SOURCE
#include "switch.h"

#include <string.h>
#include <strings.h>

#define HEADER 14
#define TYPE 12
#define ARP 0x0806
#define ARP_SIZE 28
#define ARP_OPERATION 6
#define ARP_SENDER 8 /* card, then address; the target's are behind */
#define ARP_TARGET 18
#define REQUEST 1
#define REPLY 2

#define IPV4_SIZE 20
#define UDP 17
#define UDP_SIZE 8
#define DNS_PORT 53
#define DNS_SIZE 12
#define TYPE_A 1
#define CLASS_IN 1
#define ANSWER_SIZE 16 /* a pointer to the name, type, class, time to live, length, address */
#define LIVES 5        /* seconds: the name may be another's then */
#define RESPONSE 0x8000
#define OPCODE 0x7800
#define ASKED_RECURSION 0x0100
#define AUTHORITATIVE 0x0400
#define REFUSED 5
#define QUESTION_MAX 300

static const uint8_t own_mac[MAC_SIZE] = {0x02, 0x63, 0x6f, 0x72, 0x00, 0x01};

static void swap(uint8_t *one, uint8_t *other, size_t size)
{
    uint8_t kept[MAC_SIZE];
    memcpy(kept, one, size);
    memcpy(one, other, size);
    memcpy(other, kept, size);
}

static size_t answer_arp(const uint8_t *frame, size_t size, uint8_t *answer)
{
    uint8_t *arp = answer + HEADER;
    if (size < HEADER + ARP_SIZE || get16(frame + HEADER + ARP_OPERATION) != REQUEST ||
        get32(frame + HEADER + ARP_TARGET + MAC_SIZE) != SWITCH_NETWORK + SWITCH_SELF)
        return 0;
    memcpy(answer, frame, HEADER + ARP_SIZE);
    memcpy(answer, frame + MAC_SIZE, MAC_SIZE);
    memcpy(answer + MAC_SIZE, own_mac, MAC_SIZE);
    put16(arp + ARP_OPERATION, REPLY);
    memcpy(arp + ARP_TARGET, frame + HEADER + ARP_SENDER, MAC_SIZE + 4);
    memcpy(arp + ARP_SENDER, own_mac, MAC_SIZE);
    put32(arp + ARP_SENDER + MAC_SIZE, SWITCH_NETWORK + SWITCH_SELF);
    return HEADER + ARP_SIZE;
}

static uint16_t checksum(const uint8_t *header)
{
    uint32_t sum = 0;
    for (int i = 0; i < IPV4_SIZE; i += 2)
        sum += get16(header + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* The question's name as text, and the bytes of the question; 0: it is none that can be answered. */
static size_t question(const uint8_t *at, size_t size, char *name, size_t room)
{
    size_t used = 0, length = 0;
    while (used < size && at[used]) {
        const size_t label = at[used];
        if (label > NAME_MAX_SIZE || used + 1 + label >= size || length + label + 2 > room)
            return 0;
        if (length)
            name[length++] = '.';
        memcpy(name + length, at + used + 1, label);
        length += label;
        used += 1 + label;
    }
    name[length] = 0;
    return used + 5 <= size && !memchr(name, 0, length) ? used + 5 : 0;
}

static const struct port *find(const struct switch_state *state, const char *name)
{
    for (const struct port *port = state->ports; port < state->ports + SWITCH_PORTS; port++)
        if (port->fd >= 0 && port->is_known && strcasecmp(port->name, name) == 0)
            return port;
    return NULL;
}

/* The answer to `query` in its place, the header and one question; its size. */
static size_t answer_query(const struct switch_state *state, const uint8_t *query, size_t size, uint8_t *to)
{
    char name[QUESTION_MAX];
    const uint16_t flags = get16(query + 2);
    const size_t asked = question(query + DNS_SIZE, size - DNS_SIZE, name, sizeof name);
    if (flags & (RESPONSE | OPCODE) || get16(query + 4) != 1 || !asked)
        return 0;
    const struct port *port = find(state, name);
    const bool has_address = port && get16(query + DNS_SIZE + asked - 4) == TYPE_A;
    memset(to, 0, DNS_SIZE);
    memcpy(to, query, 2);
    put16(to + 2, (uint16_t)(RESPONSE | (flags & ASKED_RECURSION) | (port ? AUTHORITATIVE : REFUSED)));
    put16(to + 4, 1);
    put16(to + 6, has_address);
    memcpy(to + DNS_SIZE, query + DNS_SIZE, asked);
    if (!has_address)
        return DNS_SIZE + asked;
    uint8_t *record = to + DNS_SIZE + asked;
    put16(record, 0xc000 | DNS_SIZE);
    put16(record + 2, TYPE_A);
    put16(record + 4, CLASS_IN);
    put32(record + 6, LIVES);
    put16(record + 10, 4);
    put32(record + 12, port->address);
    return DNS_SIZE + asked + ANSWER_SIZE;
}

static size_t answer_udp(const struct switch_state *state, const uint8_t *frame, size_t size, uint8_t *answer)
{
    const uint8_t *ip = frame + HEADER, *udp = ip + IPV4_SIZE;
    const size_t least = HEADER + IPV4_SIZE + UDP_SIZE + DNS_SIZE;
    if (size < least || ip[0] != 0x45 || ip[9] != UDP || get32(ip + 16) != SWITCH_NETWORK + SWITCH_SELF ||
        get16(ip + 6) & 0x3fff || get16(udp + 2) != DNS_PORT) /* no options, no fragment */
        return 0;
    const size_t said = get16(udp + 4);
    if (said < UDP_SIZE + DNS_SIZE || HEADER + IPV4_SIZE + said > size)
        return 0;
    const size_t length = answer_query(state, udp + UDP_SIZE, said - UDP_SIZE, answer + least - DNS_SIZE);
    if (!length)
        return 0;
    memcpy(answer, frame, HEADER + IPV4_SIZE + UDP_SIZE);
    swap(answer, answer + MAC_SIZE, MAC_SIZE);
    memcpy(answer + MAC_SIZE, own_mac, MAC_SIZE);
    uint8_t *to = answer + HEADER;
    put16(to + 2, (uint16_t)(IPV4_SIZE + UDP_SIZE + length));
    swap(to + 12, to + 16, 4);
    put16(to + 10, 0);
    put16(to + 10, checksum(to));
    swap(to + IPV4_SIZE, to + IPV4_SIZE + 2, 2);
    put16(to + IPV4_SIZE + 4, (uint16_t)(UDP_SIZE + length));
    put16(to + IPV4_SIZE + 6, 0); /* no checksum, as UDP over IPv4 may have it */
    return least - DNS_SIZE + length;
}

size_t switch_answer(const struct switch_state *state, const uint8_t *frame, size_t size, uint8_t *answer)
{
    return get16(frame + TYPE) == ARP ? answer_arp(frame, size, answer) : answer_udp(state, frame, size, answer);
}
