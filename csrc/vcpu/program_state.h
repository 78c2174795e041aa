/* What a program at CPL 3 changes of a vCPU, put back in as few calls as KVM allows (docs/rewind.md). */
#ifndef CORRAL_PROGRAM_STATE_H
#define CORRAL_PROGRAM_STATE_H

#include "vcpu.h"

/* --- for Python --- */

struct corral_program_state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_vcpu_events events;
    uint8_t xsave[4096];          /* a struct kvm_xsave without what may follow it */
    struct kvm_lapic_state lapic; /* its timer and the devices change that, whoever runs */
};

/* Counts by which it is known that a vCPU of a pagetable KVM has run no kernel code. */
struct corral_kernel_count {
    int fd;               /* of the vCPU's statistics */
    uint64_t offset;      /* in them, of what KVM has emulated: each instruction of an interpreted kernel is */
    uint64_t seen, exits; /* at the last look */
};

/* Whether a program alone has run since the last look, and looks: all that was emulated since are accesses to
 * ports, whose exits are counted too, and there was no exit of another kind. Returns 1, 0 or -errno. */
int corral_only_program_ran(const struct corral_vcpu *v, struct corral_kernel_count *count);

/* For a vCPU that no thread runs, with the KVM_SYNC_X86_ fields valid. What the last exit has left to do is done
 * first, and has no effect on these. Returns 0 or -errno; -EAGAIN: it led to more exits than an instruction has.
 */
int corral_program_put_back(struct corral_vcpu *v, const struct corral_program_state *state);

/* --- for C alone --- */

#endif
