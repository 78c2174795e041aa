/* What the functions that complete instructions share: results, faults, and the state that they work on. */
#ifndef CORRAL_COMPLETION_H
#define CORRAL_COMPLETION_H

#include "assist.h"
#include "guest_access.h"
#include "instruction.h"

/* What a finisher returns; an error is -errno. */
#define CORRAL_FINISHED 1
#define CORRAL_UNKNOWN 0

#define RFLAGS_FIXED (1ULL << 1)
#define RFLAGS_ZF (1ULL << 6)
#define RFLAGS_RF (1ULL << 16)
#define RFLAGS_AC (1ULL << 18)

#define CR0_MP (1ULL << 1)
#define CR0_EM (1ULL << 2)
#define CR0_TS (1ULL << 3)
#define CR0_NE (1ULL << 5)
#define CR4_TSD (1ULL << 2)
#define CR4_OSFXSR (1ULL << 9)
#define CR4_OSXMMEXCPT (1ULL << 10)
#define CR4_OSXSAVE (1ULL << 18)

enum corral_vector {
    CORRAL_DB = 1,
    CORRAL_BP = 3,
    CORRAL_UD = 6,
    CORRAL_NM = 7,
    CORRAL_GP = 13,
    CORRAL_PF = 14,
    CORRAL_MF = 16,
    CORRAL_XM = 19
};

#define XCR0_X87 1ULL
#define XCR0_SSE 2ULL
#define XCR0_AVX 4ULL
#define XCR0_AVX512 0xe0ULL

static inline bool corral_at_cpl_3(struct corral_vcpu *v)
{
    return corral_assist_state(v)->sregs.cs.dpl == 3;
}

/* The end of an instruction that went well: RIP moves on. */
int corral_advance(struct corral_vcpu *v, const struct corral_instruction *i, enum corral_completion what);

/* Delivers an exception without an error code, or #GP(0). A fault leaves RIP at the instruction; a trap's caller
 * has moved it on. */
int corral_deliver(struct corral_vcpu *v, enum corral_vector vector);

/* What an access that did not succeed means for the guest. */
int corral_failed_access(struct corral_vcpu *v, enum corral_access_result result,
                         const struct corral_page_fault *fault);

/* XCR0, as KVM keeps it for the guest. 0 or -errno. */
int corral_enabled_features(struct corral_vcpu *v, uint64_t *xcr0);

/* CLAC, with the SYSCALL that it may be the sign of, and STAC. */
int corral_complete_clac_stac(struct corral_vcpu *v, const struct corral_instruction *i);

/* XGETBV and XSETBV; XSAVE and its kin, by opcode and ModRM; XRSTOR, XRSTORS. */
int corral_complete_xcr(struct corral_vcpu *v, const struct corral_instruction *i);
int corral_complete_save(struct corral_vcpu *v, const struct corral_instruction *i, bool compacted, bool optimise);
int corral_complete_restore(struct corral_vcpu *v, const struct corral_instruction *i, bool supervisor);

/* An instruction whose form is CORRAL_NATIVE. */
int corral_complete_natively(struct corral_vcpu *v, const struct corral_instruction *i);

#endif
