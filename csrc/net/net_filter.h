/* What a guest may send, by its frames: an address and a port at a time. It is the host's, and out of the guest's
 * reach; what a frame says is looked at in a copy, and that copy is what leaves. */
#ifndef CORRAL_NET_FILTER_H
#define CORRAL_NET_FILTER_H

#include "net_flows.h"

#include <stdbool.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_NET_RULES 256
#define CORRAL_NET_NAMES 64
#define CORRAL_NET_NAME 256     /* bytes: RFC 1035, section 3.1 */
#define CORRAL_NET_PUBLISHED 64 /* ports */

struct corral_net_rule {
    uint8_t address[16];  /* of IPv4 as ::ffff:a.b.c.d */
    uint8_t prefix;       /* bits of it that count */
    uint16_t first, last; /* ports of TCP and UDP; 0 and 0: all of them, and all other protocols of IP */
    bool denies;
};

/* Of the rules that fit, one that denies wins; where none fits it is `otherwise`. The resolver is asked for
 * `names` all the same, each as a question has it, in lower case. Connections of TCP that have come in are
 * answered, and what else comes to one of the `published` ports of UDP; `answers_all`: what else comes in. */
struct corral_net_filter {
    unsigned n_rules, n_names, n_published;
    bool otherwise, answers_all;
    uint16_t published[CORRAL_NET_PUBLISHED];
    uint8_t resolver[16];
    struct corral_net_rule rules[CORRAL_NET_RULES];
    uint8_t names[CORRAL_NET_NAMES][CORRAL_NET_NAME];
};

/* --- for C alone --- */

/* Whether a frame may be sent, of which the first `size` bytes are at hand. */
bool corral_net_may_send(const struct corral_net_filter *f, const struct corral_net_flows *flows,
                         const uint8_t *frame, uint32_t size);

#endif
