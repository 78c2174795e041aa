/* A rate limit, as the time at which what was let through so far would have ended at exactly that rate. */
#ifndef CORRAL_LIMIT_H
#define CORRAL_LIMIT_H

#include <stdint.h>

struct corral_limit {
    uint64_t rate; /* a second; 0: none */
    uint64_t paid; /* ns: when all that was charged is paid off */
};

/* How long to wait at `now` (ns) until something may pass; 0: it may. Idle time is saved up for a tenth of a
 * second. */
uint64_t corral_limit_wait(const struct corral_limit *l, uint64_t now);

/* Charges what passes. It may be more than is there: what comes after it waits. */
void corral_limit_charge(struct corral_limit *l, uint64_t now, uint64_t amount);

#endif
