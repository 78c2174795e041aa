/* A rate limit: a token bucket, kept as a time instead of a level. */
#include "limit.h"

#define SECOND 1000000000ull
#define BURST (SECOND / 10)

uint64_t corral_limit_wait(const struct corral_limit *l, uint64_t now)
{
    return l->rate && l->paid > now + BURST ? l->paid - now - BURST : 0;
}

void corral_limit_charge(struct corral_limit *l, uint64_t now, uint64_t amount)
{
    if (!l->rate)
        return;
    unsigned __int128 cost = (unsigned __int128)amount * SECOND / l->rate;
    /* A rate of a byte a second makes centuries of a request; an hour is enough, and does not overflow. */
    uint64_t most = 3600 * SECOND;
    l->paid = (l->paid > now ? l->paid : now) + (cost < most ? (uint64_t)cost : most);
}
