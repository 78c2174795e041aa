/* Completing what this host's KVM cannot execute: docs/assist.md tells what, why and how to add one.
 *
 * An instruction that KVM's interpreter lacks ends KVM_RUN with KVM_EXIT_INTERNAL_ERROR; the state is that before
 * the instruction. It is worked on in the sync-regs area of kvm_run: fetched there only when an instruction is to
 * be completed (letting KVM store it would make every exit a tenth slower), and taken from there by the next
 * KVM_RUN. */
#ifndef CORRAL_ASSIST_H
#define CORRAL_ASSIST_H

#include "vcpu.h"

/* --- for Python --- */

/* What was completed: the index of a count. */
enum corral_completion {
    CORRAL_CLAC,
    CORRAL_STAC,
    CORRAL_SYSCALL,
    CORRAL_INTERRUPT,
    CORRAL_SAVE,
    CORRAL_RESTORE,
    CORRAL_XCR,
    CORRAL_CMPXCHG,
    CORRAL_TIME_STAMP,
    CORRAL_BARRIER,
    CORRAL_NATIVELY,
    CORRAL_EXCEPTION, /* those that software interrupts deliver included */
    CORRAL_COMPLETIONS
};

struct corral_trampoline;

/* Places of LIDT that are watched (assist_user.c). */
#define CORRAL_LIDTS 3

/* --- for C alone --- */

/* What is watched for the instructions of CPL 3 that KVM does not tell of. */
struct corral_user_watch {
    bool set_up, on;
    bool filling; /* LIDT was met, and #UD has no gate yet: the guest is stepped */
    unsigned steps, settled;
    unsigned n_lidt;
    uint64_t lidt[CORRAL_LIDTS]; /* linear addresses */
    uint64_t entry;              /* of #UD's gate; 0: not known */
};

/* --- for Python --- */

struct corral_assist {
    uint64_t completed[CORRAL_COMPLETIONS];
    /* --- for C alone --- */
    struct corral_user_watch user;
    struct corral_trampoline *trampoline; /* NULL: the host gives no executable page, and */
    int no_trampoline;                    /* says this errno; what needs one ends with it */
    struct kvm_xsave xsave;               /* scratch; last, for it ends in an array without a size */
};

/* NULL: no memory. */
struct corral_assist *corral_assist_create(void);
void corral_assist_destroy(struct corral_assist *a);

/* Finisher of KVM_EXIT_INTERNAL_ERROR; needs v->assist. */
int corral_assist_finish(struct corral_vcpu *v);

/* Finishers of KVM_EXIT_SHUTDOWN and, once corral_assist_watch was called, of KVM_EXIT_DEBUG. */
int corral_assist_shutdown(struct corral_vcpu *v);
int corral_assist_debug(struct corral_vcpu *v);

/* Has the vCPU stop at these instructions, which are LIDT or nothing. Only while it does not run. 0 or -errno. */
int corral_assist_watch(struct corral_vcpu *v, const uint64_t *lidt, unsigned count);

/* The same for a vCPU whose state was restored: it has loaded its table already. */
int corral_assist_watch_on(struct corral_vcpu *v, const uint64_t *lidt, unsigned count);

/* Off while somebody else has the debug registers, and on again. 0 or -errno. */
int corral_assist_watch_again(struct corral_vcpu *v, bool on);

/* The sync-regs area: the state that instructions are completed on. */
struct kvm_sync_regs *corral_assist_state(struct corral_vcpu *v);

/* The same for the instruction at RIP, by a state that is in the sync-regs area already; `bytes` are its first
 * ones, and those that are missing are fetched from the guest. Only exceptions, MSRs and what has x87 or vector
 * state need v->fd. */
int corral_assist_complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size);

#endif
