/* Watched memory for a KVM that tells nothing of data accesses: the guest is stepped, and the bytes are compared. */
#ifndef CORRAL_WATCH_H
#define CORRAL_WATCH_H

#include "vcpu.h"

#define CORRAL_WATCHES 4

struct corral_watch {
    const uint8_t *host;
    uint8_t size; /* 1 to 8 */
    uint8_t old[8];
};

struct corral_watches {
    unsigned count;
    struct corral_watch watch[CORRAL_WATCHES];
};

/* Finisher of KVM_EXIT_DEBUG: a step after which all of v->watches are as they were. */
int corral_finish_watched(struct corral_vcpu *v);

#endif
