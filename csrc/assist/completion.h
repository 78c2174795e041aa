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
#define RFLAGS_OF (1ULL << 11)
#define RFLAGS_ZF (1ULL << 6)
#define RFLAGS_IF (1ULL << 9)
#define RFLAGS_IOPL (3ULL << 12)
#define RFLAGS_NT (1ULL << 14)
#define RFLAGS_RF (1ULL << 16)
#define RFLAGS_VM (1ULL << 17)
#define RFLAGS_AC (1ULL << 18)

#define CR0_PE (1ULL << 0)
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
    CORRAL_OF = 4,
    CORRAL_UD = 6,
    CORRAL_NM = 7,
    CORRAL_NP = 11,
    CORRAL_SS = 12,
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

/* The same with an error code. */
int corral_deliver_code(struct corral_vcpu *v, enum corral_vector vector, uint32_t code);

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

/* The instruction at RIP, of CPL 3; all of it is fetched. `interrupts_only`: INT n and its kin alone. */
int corral_assist_complete_user(struct corral_vcpu *v, bool interrupts_only);

/* Whether the vCPU is at the first instruction of #UD's handler. Then the #UD is taken back, if it was one that
 * KVM gave for an instruction of CPL 3 that it lacks. */
bool corral_assist_at_invalid_opcode(struct corral_vcpu *v);
int corral_assist_take_back(struct corral_vcpu *v);

/* Where a guest is watched: watches #UD's gate as it is now. 0: as before; < 0: -errno. */
int corral_assist_follow_table(struct corral_vcpu *v);

/* LIDT. KVM has it too. */
int corral_complete_lidt(struct corral_vcpu *v, const struct corral_instruction *i);

static inline bool corral_is_interrupt(const struct corral_instruction *i)
{
    return i->opcode == CORRAL_OPCODE(0, 0xcc) || i->opcode == CORRAL_OPCODE(0, 0xcd) ||
           i->opcode == CORRAL_OPCODE(0, 0xf1);
}

/* INT3, INT n, INTO and INT1; IRET of 32-bit code. */
int corral_complete_interrupt(struct corral_vcpu *v, const struct corral_instruction *i);
int corral_complete_iret(struct corral_vcpu *v, const struct corral_instruction *i);

/* An instruction whose form is CORRAL_NATIVE. */
int corral_complete_natively(struct corral_vcpu *v, const struct corral_instruction *i);

#endif
