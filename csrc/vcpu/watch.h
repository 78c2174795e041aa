/* Stores to watched bytes, on a KVM that does not tell of them: their page is read-only for the guest, so that
 * each store to it is an exit. */
#ifndef CORRAL_WATCH_H
#define CORRAL_WATCH_H

#include "vcpu.h"

/* --- for Python --- */

#define CORRAL_WATCHES 4

struct corral_watches {
    unsigned count;
    struct corral_watch {
        uint64_t gpa;
        uint8_t size; /* 1 to 8 */
    } watch[CORRAL_WATCHES];
};

/* Finisher of KVM_EXIT_MMIO with v->watches: does a store to RAM, and leaves it to Python when it was to watched
 * bytes. A second call does the same. */
int corral_finish_store(struct corral_vcpu *v);

#endif
