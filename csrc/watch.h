/* Points for a KVM that does not tell of them: the guest is stepped, and what is watched is compared. */
#ifndef CORRAL_WATCH_H
#define CORRAL_WATCH_H

#include "vcpu.h"

#define CORRAL_WATCHES 4
#define CORRAL_STOPS 64

struct corral_watch {
    const uint8_t *host;
    uint8_t size; /* 1 to 8 */
    uint8_t old[8];
};

struct corral_watches {
    struct kvm_guest_debug
        *again; /* after each step, for a KVM that forgets to step after what it emulates; or NULL */
    unsigned count;
    struct corral_watch watch[CORRAL_WATCHES];
    unsigned stop_count;
    uint64_t stops[CORRAL_STOPS]; /* linear addresses that code may come to */
};

/* Finisher of KVM_EXIT_DEBUG: a step to none of v->watches' stops, after which all that is watched is as it was.
 */
int corral_finish_watched(struct corral_vcpu *v);

#endif
