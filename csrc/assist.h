/* Completing what this host's KVM cannot execute: docs/assist.md tells what, why and how to add one.
 *
 * An instruction that KVM's interpreter lacks ends KVM_RUN with KVM_EXIT_INTERNAL_ERROR; the state is that before
 * the instruction. It is worked on in the sync-regs area of kvm_run: fetched there only when an instruction is to
 * be completed (letting KVM store it would make every exit a tenth slower), and taken from there by the next
 * KVM_RUN. */
#ifndef CORRAL_ASSIST_H
#define CORRAL_ASSIST_H

#include "vcpu.h"

/* What was completed: the index of a count. */
enum corral_completion {
    CORRAL_CLAC,
    CORRAL_STAC,
    CORRAL_SYSCALL,
    CORRAL_BREAKPOINT,
    CORRAL_SAVE,
    CORRAL_RESTORE,
    CORRAL_XCR,
    CORRAL_CMPXCHG,
    CORRAL_TIME_STAMP,
    CORRAL_BARRIER,
    CORRAL_NATIVELY,
    CORRAL_EXCEPTION, /* those that breakpoints deliver included */
    CORRAL_COMPLETIONS
};

struct corral_trampoline;

struct corral_assist {
    uint64_t completed[CORRAL_COMPLETIONS];
    struct kvm_xsave xsave;               /* scratch */
    struct corral_trampoline *trampoline; /* made when first needed */
};

/* NULL: no memory. */
struct corral_assist *corral_assist_create(void);
void corral_assist_destroy(struct corral_assist *a);

/* Finisher of KVM_EXIT_INTERNAL_ERROR; needs v->assist. */
int corral_assist_finish(struct corral_vcpu *v);

/* The sync-regs area: the state that instructions are completed on. */
struct kvm_sync_regs *corral_assist_state(struct corral_vcpu *v);

/* The same for an instruction and a state that is in the sync-regs area already. Only exceptions, MSRs
 * and what has x87 or vector state need v->fd. */
int corral_assist_complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size);

#endif
