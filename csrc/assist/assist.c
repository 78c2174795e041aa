/* From an exit to the function that completes the instruction, and the instructions that take a few lines. */
#include "completion.h"
#include "trampoline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10
#define MSR_TSC_AUX 0xc0000103

struct kvm_sync_regs *corral_assist_state(struct corral_vcpu *v)
{
    return &v->run->s.regs;
}

int corral_advance(struct corral_vcpu *v, const struct corral_instruction *i, enum corral_completion what)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    s->regs.rip += i->length;
    if (!s->sregs.cs.l)
        s->regs.rip = (uint32_t)s->regs.rip;
    s->regs.rflags &= ~RFLAGS_RF;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    v->assist->completed[what]++;
    return CORRAL_FINISHED;
}

static int deliver(struct corral_vcpu *v, enum corral_vector vector, bool has_code, uint32_t code)
{
    struct kvm_vcpu_events *events = &corral_assist_state(v)->events;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, events) < 0)
        return -errno;
    memset(&events->exception, 0, sizeof events->exception);
    events->exception.injected = 1;
    events->exception.nr = vector;
    events->exception.has_error_code = has_code;
    events->exception.error_code = code;
    events->flags = 0; /* none of the optional fields is ours to set */
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    v->assist->completed[CORRAL_EXCEPTION]++;
    return CORRAL_FINISHED;
}

int corral_deliver(struct corral_vcpu *v, enum corral_vector vector)
{
    return deliver(v, vector, vector == CORRAL_GP, 0);
}

int corral_deliver_code(struct corral_vcpu *v, enum corral_vector vector, uint32_t code)
{
    return deliver(v, vector, true, code);
}

int corral_failed_access(struct corral_vcpu *v, enum corral_access_result result,
                         const struct corral_page_fault *fault)
{
    if (result == CORRAL_ACCESS_NOT_CANONICAL)
        return corral_deliver(v, CORRAL_GP);
    if (result != CORRAL_ACCESS_FAULT)
        return CORRAL_UNKNOWN;
    corral_assist_state(v)->sregs.cr2 = fault->address;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    return deliver(v, CORRAL_PF, true, fault->error_code);
}

/* CMPXCHG8B and 16B, on guest memory itself: another vCPU may work on the same bytes at the same time. */
static int compare_exchange(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    struct corral_page_fault fault;
    enum corral_access_result result;
    size_t size = i->rex_w ? 16 : 8;
    if (i->rex_w && i->address % 16)
        return corral_deliver(v, CORRAL_GP);
    if (i->address % size)
        return CORRAL_UNKNOWN; /* a split CMPXCHG8B: no kernel does that */
    void *host = corral_access_in_place(v, i->address, size, true, &result, &fault);
    if (!host)
        return corral_failed_access(v, result, &fault);
    bool equal;
    if (i->rex_w) {
        __asm__ volatile("lock cmpxchg16b %1"
                         : "=@ccz"(equal), "+m"(*(__int128 *)host), "+a"(regs->rax), "+d"(regs->rdx)
                         : "b"(regs->rbx), "c"(regs->rcx)
                         : "memory");
    } else {
        uint64_t expected = (uint32_t)regs->rax | regs->rdx << 32;
        uint64_t wanted = (uint32_t)regs->rbx | regs->rcx << 32;
        equal = __atomic_compare_exchange_n((uint64_t *)host, &expected, wanted, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST);
        if (!equal) {
            regs->rax = (uint32_t)expected;
            regs->rdx = expected >> 32;
        }
    }
    regs->rflags = equal ? regs->rflags | RFLAGS_ZF : regs->rflags & ~RFLAGS_ZF;
    return corral_advance(v, i, CORRAL_CMPXCHG);
}

static int time_stamp(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    struct { /* a kvm_msrs and its entries */
        uint32_t nmsrs, pad;
        struct kvm_msr_entry tsc, aux;
    } msrs = {2, 0, {.index = MSR_TSC}, {.index = MSR_TSC_AUX}};
    if (corral_at_cpl_3(v) && (corral_assist_state(v)->sregs.cr4 & CR4_TSD))
        return corral_deliver(v, CORRAL_GP);
    int got = ioctl(v->fd, KVM_GET_MSRS, &msrs);
    if (got < 0)
        return -errno;
    if (got != 2) /* no TSC_AUX: no RDTSCP */
        return corral_deliver(v, CORRAL_UD);
    regs->rax = (uint32_t)msrs.tsc.data;
    regs->rdx = msrs.tsc.data >> 32;
    regs->rcx = (uint32_t)msrs.aux.data;
    return corral_advance(v, i, CORRAL_TIME_STAMP);
}

/* Nothing is cached behind the guest's back; but an address that it cannot reach faults. */
static int cache_line(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct corral_page_fault fault;
    uint8_t byte;
    enum corral_access_result result = corral_access(v, i->address, &byte, 1, false, &fault);
    if (result == CORRAL_ACCESS_FAULT || result == CORRAL_ACCESS_NOT_CANONICAL)
        return corral_failed_access(v, result, &fault);
    return corral_advance(v, i, CORRAL_BARRIER);
}

/* 0F 01: of its members, those with fixed ModRM. KVM has the others that a guest may know of. */
static int group_7(struct corral_vcpu *v, const struct corral_instruction *i)
{
    if (i->is_memory && i->prefix != CORRAL_F3 && corral_member(i) == 3)
        return corral_complete_lidt(v, i);
    if (i->is_memory)
        return i->prefix == CORRAL_F3 && corral_member(i) == 5 ? corral_deliver(v, CORRAL_UD) : CORRAL_UNKNOWN;
    if (i->prefix != CORRAL_NONE)
        return corral_deliver(v, CORRAL_UD);
    switch (i->modrm) {
    case 0xca:
    case 0xcb:
        return corral_complete_clac_stac(v, i);
    case 0xd0:
    case 0xd1:
        return corral_complete_xcr(v, i);
    case 0xe8: /* SERIALIZE: the exit was one */
        return corral_advance(v, i, CORRAL_BARRIER);
    case 0xf9:
        return time_stamp(v, i);
    }
    return corral_deliver(v, CORRAL_UD);
}

/* 0F AE */
static int group_15(struct corral_vcpu *v, const struct corral_instruction *i)
{
    unsigned member = corral_member(i);
    if (!i->is_memory && member >= 5 && i->prefix == CORRAL_NONE) /* LFENCE, MFENCE, SFENCE */
        return corral_advance(v, i, CORRAL_BARRIER);
    if (i->is_memory && member >= 6 && i->prefix == CORRAL_66) /* CLWB, CLFLUSHOPT */
        return cache_line(v, i);
    if (!i->is_memory || i->prefix != CORRAL_NONE)
        return corral_deliver(v, CORRAL_UD);
    switch (member) {
    case 4:
        return corral_complete_save(v, i, false, false);
    case 5:
        return corral_complete_restore(v, i, false);
    case 6:
        return corral_complete_save(v, i, false, true);
    case 7: /* CLFLUSH */
        return cache_line(v, i);
    }
    return CORRAL_UNKNOWN;
}

/* 0F C7 */
static int group_9(struct corral_vcpu *v, const struct corral_instruction *i)
{
    unsigned member = corral_member(i);
    if (i->is_memory && member == 1)
        return compare_exchange(v, i);
    if (!i->is_memory || member < 3 || member > 5 || i->prefix != CORRAL_NONE) /* VMPTRLD and its kin */
        return corral_deliver(v, CORRAL_UD);
    if (member != 4 && corral_at_cpl_3(v))
        return corral_deliver(v, CORRAL_GP);
    return member == 3 ? corral_complete_restore(v, i, true) : corral_complete_save(v, i, true, true);
}

static int by_opcode(struct corral_vcpu *v, const struct corral_instruction *i)
{
    bool lockable = i->opcode == CORRAL_OPCODE(1, 0xc7) && i->is_memory && corral_member(i) == 1;
    if (i->lock && !lockable)
        return corral_deliver(v, CORRAL_UD);
    if (i->form->flags & CORRAL_ABSENT)
        return corral_deliver(v, CORRAL_UD);
    if (i->form->flags & CORRAL_NATIVE)
        return corral_runs_natively(i) ? corral_complete_natively(v, i) : CORRAL_UNKNOWN;
    switch (i->opcode) {
    case CORRAL_OPCODE(1, 0x01):
        return group_7(v, i);
    case CORRAL_OPCODE(1, 0xae):
        return group_15(v, i);
    case CORRAL_OPCODE(1, 0xc7):
        return group_9(v, i);
    case CORRAL_OPCODE(1, 0x0b): /* UD2, UD1, UD0 */
    case CORRAL_OPCODE(1, 0xb9):
    case CORRAL_OPCODE(1, 0xff):
        return corral_deliver(v, CORRAL_UD);
    case CORRAL_OPCODE(0, 0xcc):
    case CORRAL_OPCODE(0, 0xcd):
    case CORRAL_OPCODE(0, 0xce):
    case CORRAL_OPCODE(0, 0xf1):
        return corral_complete_interrupt(v, i);
    case CORRAL_OPCODE(0, 0xcf):
        return corral_complete_iret(v, i);
    }
    return CORRAL_UNKNOWN;
}

/* Completes the instruction at RIP, of which the first `size` bytes are known. */
static int complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size, bool interrupts_only)
{
    const struct kvm_sync_regs *s = corral_assist_state(v);
    struct corral_instruction instruction;
    enum corral_access_result result;
    struct corral_page_fault fault;
    uint8_t whole[CORRAL_LONGEST_INSTRUCTION];

    size = size < sizeof whole ? size : sizeof whole;
    if (size)
        memcpy(whole, bytes, size);
    size_t fetched = size + corral_fetch(v, s->sregs.cs.base + s->regs.rip + size, whole + size,
                                         sizeof whole - size, &result, &fault);
    if (corral_decode(&instruction, whole, fetched, &s->regs, &s->sregs))
        return !interrupts_only || corral_is_interrupt(&instruction) ? by_opcode(v, &instruction) : CORRAL_UNKNOWN;
    if (!instruction.cut_off || interrupts_only)
        return CORRAL_UNKNOWN;
    return fetched == sizeof whole ? corral_deliver(v, CORRAL_GP) : corral_failed_access(v, result, &fault);
}

int corral_assist_complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size)
{
    return complete(v, bytes, size, false); /* KVM has not read on into the next page */
}

int corral_assist_complete_user(struct corral_vcpu *v, bool interrupts_only)
{
    return complete(v, NULL, 0, interrupts_only);
}

int corral_assist_finish(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    struct kvm_sync_regs *s = corral_assist_state(v);
    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || !v->assist)
        return CORRAL_UNKNOWN;
    if (!(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return CORRAL_UNKNOWN;
    if (ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s->sregs) < 0)
        return -errno;
    int followed = corral_assist_follow_table(v);
    if (followed < 0)
        return followed;
    return corral_assist_complete(v, run->emulation_failure.insn_bytes, run->emulation_failure.insn_size);
}

struct corral_assist *corral_assist_create(void)
{
    struct corral_assist *a = calloc(1, sizeof *a);
    if (a && !(a->trampoline = corral_trampoline_create())) /* now: later there may be no right to */
        a->no_trampoline = errno;
    return a;
}

void corral_assist_destroy(struct corral_assist *a)
{
    if (a)
        corral_trampoline_destroy(a->trampoline);
    free(a);
}
