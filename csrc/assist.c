/* What is completed, instruction by instruction. Each function gets the decoded instruction, does its work on the
 * sync regs and returns what a finisher does; `advance` is the good end of most. */
#include "assist.h"

#include "guest_access.h"
#include "instruction.h"
#include "xsave.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define FINISHED 1
#define UNKNOWN 0

#define RFLAGS_CF (1ULL << 0)
#define RFLAGS_PF (1ULL << 2)
#define RFLAGS_AF (1ULL << 4)
#define RFLAGS_ZF (1ULL << 6)
#define RFLAGS_SF (1ULL << 7)
#define RFLAGS_RF (1ULL << 16)
#define RFLAGS_OF (1ULL << 11)
#define RFLAGS_AC (1ULL << 18)
#define RFLAGS_FIXED 2ULL
#define RFLAGS_ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define VECTOR_DB 1
#define VECTOR_BP 3
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_FMASK 0xc0000084

/* Present, user, instruction fetch: what a fetch at CPL 3 from a supervisor page faults with. */
#define FETCH_FAULT 0x15

struct kvm_sync_regs *corral_assist_state(struct corral_vcpu *v)
{
    return &v->run->s.regs;
}

static int advance(struct corral_vcpu *v, const struct corral_instruction *i, enum corral_completion what)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    s->regs.rip += i->length;
    s->regs.rflags &= ~RFLAGS_RF;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    v->assist->completed[what]++;
    return FINISHED;
}

/* Delivers an exception. A fault leaves RIP at the instruction; a trap's caller moves it on. */
static int deliver(struct corral_vcpu *v, uint8_t vector, bool has_code, uint32_t code,
                   enum corral_completion what)
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
    v->assist->completed[what]++;
    return FINISHED;
}

static int general_protection(struct corral_vcpu *v)
{
    return deliver(v, VECTOR_GP, true, 0, CORRAL_FAULT);
}

static int undefined(struct corral_vcpu *v)
{
    return deliver(v, VECTOR_UD, false, 0, CORRAL_UNDEFINED);
}

/* What an access that did not succeed means for the guest. */
static int failed_access(struct corral_vcpu *v, enum corral_access_result result,
                         const struct corral_page_fault *fault)
{
    if (result != CORRAL_ACCESS_FAULT)
        return UNKNOWN;
    corral_assist_state(v)->sregs.cr2 = fault->address;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    return deliver(v, VECTOR_PF, true, fault->error_code, CORRAL_FAULT);
}

static bool at_cpl_3(struct corral_vcpu *v)
{
    return corral_assist_state(v)->sregs.cs.dpl == 3;
}

/* SYSCALL at CPL 3 arrives as a page fault at LSTAR (docs/hosts.md); the handler's first instruction is CLAC,
 * where it is told from a real fault by its frame: a fetch from the entry point itself, at CPL 3. */
static int complete_syscall(struct corral_vcpu *v)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    struct {
        uint64_t code, rip, cs, rflags, rsp, ss;
    } frame;
    struct corral_page_fault fault;
    if (corral_access(v, s->regs.rsp, &frame, sizeof frame, false, &fault) != CORRAL_ACCESS_OK)
        return UNKNOWN;
    if (frame.code != FETCH_FAULT || frame.rip != s->sregs.cr2 || (frame.cs & 3) != 3)
        return UNKNOWN;

    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry star, lstar, fmask;
    } msrs = {{.nmsrs = 3}, {.index = MSR_STAR}, {.index = MSR_LSTAR}, {.index = MSR_FMASK}};
    if (ioctl(v->fd, KVM_GET_MSRS, &msrs) != 3)
        return -EIO;
    if (frame.rip != msrs.lstar.data)
        return UNKNOWN;

    uint16_t selector = msrs.star.data >> 32 & 0xfffc;
    s->sregs.cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = selector, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    s->sregs.ss = (struct kvm_segment){
        .limit = 0xffffffff, .selector = selector + 8, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s->regs.rsp = frame.rsp;
    s->regs.rip = frame.rip;
    s->regs.rflags = (s->regs.r11 & ~msrs.fmask.data & ~RFLAGS_RF) | RFLAGS_FIXED;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    v->assist->completed[CORRAL_SYSCALL]++;
    return FINISHED;
}

static int clac_stac(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    if (at_cpl_3(v))
        return undefined(v);
    if (i->modrm == 0xcb) {
        s->regs.rflags |= RFLAGS_AC;
        return advance(v, i, CORRAL_STAC);
    }
    /* CR2 keeps the address of the last fault, so this is tried at a few CLACs too many and at no wrong one. */
    int result = s->sregs.cr2 >> 63 ? complete_syscall(v) : UNKNOWN;
    if (result != UNKNOWN)
        return result;
    s->regs.rflags &= ~RFLAGS_AC;
    return advance(v, i, CORRAL_CLAC);
}

/* XCR0, as KVM keeps it for the guest. */
static int enabled_features(struct corral_vcpu *v, uint64_t *xcr0)
{
    struct kvm_xcrs xcrs;
    if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) < 0)
        return -errno;
    *xcr0 = xcrs.nr_xcrs ? xcrs.xcrs[0].value : 1;
    return 0;
}

static int xcr(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    if ((uint32_t)regs->rcx != 0)
        return general_protection(v);
    if (i->modrm == 0xd0) {
        uint64_t value = 0;
        int error = enabled_features(v, &value);
        if (error)
            return error;
        regs->rax = (uint32_t)value;
        regs->rdx = value >> 32;
        return advance(v, i, CORRAL_XCR);
    }
    if (at_cpl_3(v))
        return general_protection(v);
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = (uint32_t)regs->rax | regs->rdx << 32}}};
    if (ioctl(v->fd, KVM_SET_XCRS, &xcrs) < 0)
        return errno == EINVAL ? general_protection(v) : -errno;
    return advance(v, i, CORRAL_XCR);
}

static int save(struct corral_vcpu *v, const struct corral_instruction *i, bool compacted, bool optimise)
{
    const struct kvm_regs *regs = &corral_assist_state(v)->regs;
    uint8_t area[CORRAL_XSAVE_SIZE];
    struct corral_page_fault fault;
    uint64_t enabled = 0;
    if (i->address % 64)
        return general_protection(v);
    int error = enabled_features(v, &enabled);
    if (error)
        return error;
    uint64_t requested = enabled & ((uint32_t)regs->rax | regs->rdx << 32);
    size_t size = corral_xsave_size(requested, compacted);
    if (!size)
        return UNKNOWN;
    if (ioctl(v->fd, KVM_GET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    /* What the instruction does not write stays as it is. */
    enum corral_access_result result = corral_access(v, i->address, area, size, false, &fault);
    if (result == CORRAL_ACCESS_OK) {
        corral_xsave_put((const uint8_t *)&v->assist->xsave, area, requested, compacted, optimise);
        result = corral_access(v, i->address, area, size, true, &fault);
    }
    if (result != CORRAL_ACCESS_OK)
        return failed_access(v, result, &fault);
    return advance(v, i, CORRAL_SAVE);
}

static int restore(struct corral_vcpu *v, const struct corral_instruction *i, bool supervisor)
{
    const struct kvm_regs *regs = &corral_assist_state(v)->regs;
    uint8_t area[CORRAL_XSAVE_SIZE] = {0};
    const size_t head = CORRAL_XSAVE_LEGACY + CORRAL_XSAVE_HEADER;
    struct corral_page_fault fault;
    uint64_t enabled = 0, xcomp_bv;
    if (i->address % 64)
        return general_protection(v);
    int error = enabled_features(v, &enabled);
    if (error)
        return error;
    uint64_t requested = enabled & ((uint32_t)regs->rax | regs->rdx << 32);

    enum corral_access_result result = corral_access(v, i->address, area, head, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return failed_access(v, result, &fault);
    memcpy(&xcomp_bv, area + CORRAL_XSAVE_LEGACY + 8, 8);
    bool compacted = xcomp_bv >> 63;
    size_t size = corral_xsave_size(compacted ? xcomp_bv & enabled : requested, compacted);
    if (!size)
        return UNKNOWN;
    result = corral_access(v, i->address + head, area + head, size - head, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return failed_access(v, result, &fault);

    if (ioctl(v->fd, KVM_GET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    if (!corral_xsave_take((uint8_t *)&v->assist->xsave, area, requested, enabled, supervisor))
        return general_protection(v);
    if (ioctl(v->fd, KVM_SET_XSAVE, &v->assist->xsave) < 0)
        return -errno;
    return advance(v, i, CORRAL_RESTORE);
}

#define XSAVE_MXCSR 24

static int mxcsr(struct corral_vcpu *v, const struct corral_instruction *i, bool load)
{
    uint8_t *xsave = (uint8_t *)&v->assist->xsave;
    struct corral_page_fault fault;
    if (ioctl(v->fd, KVM_GET_XSAVE, xsave) < 0)
        return -errno;
    uint32_t value, mask;
    memcpy(&value, xsave + XSAVE_MXCSR, 4);
    memcpy(&mask, xsave + XSAVE_MXCSR + 4, 4);
    enum corral_access_result result = corral_access(v, i->address, &value, 4, !load, &fault);
    if (result != CORRAL_ACCESS_OK)
        return failed_access(v, result, &fault);
    if (load) {
        if (value & ~(mask ? mask : 0xffbf))
            return general_protection(v);
        memcpy(xsave + XSAVE_MXCSR, &value, 4);
        /* MXCSR counts only when SSE is marked as in use (KVM loads the area with XRSTOR). */
        xsave[CORRAL_XSAVE_LEGACY] |= 2;
        if (ioctl(v->fd, KVM_SET_XSAVE, xsave) < 0)
            return -errno;
    }
    return advance(v, i, CORRAL_MXCSR);
}

/* CMPXCHG8B and 16B, on guest memory itself: another vCPU may work on the same bytes at the same time. */
static int compare_exchange(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    struct corral_page_fault fault;
    enum corral_access_result result;
    size_t size = i->rex_w ? 16 : 8;
    if (i->rex_w && i->address % 16)
        return general_protection(v);
    if (i->address % size)
        return UNKNOWN; /* a split CMPXCHG8B: no kernel does that */
    void *host = corral_access_in_place(v, i->address, size, true, &result, &fault);
    if (!host)
        return failed_access(v, result, &fault);
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
    return advance(v, i, CORRAL_CMPXCHG);
}

/* Width of the operands: REX.W beats the operand-size prefix. */
static unsigned width(const struct corral_instruction *i)
{
    return i->rex_w ? 8 : i->operand_size ? 2 : 4;
}

/* A 32-bit result clears the upper half, a 16-bit one leaves the rest (SDM 1, 3.4.1.1). */
static void set_register(struct corral_vcpu *v, unsigned number, uint64_t value, unsigned size)
{
    uint64_t *target = corral_register(&corral_assist_state(v)->regs, number);
    *target = size == 8 ? value : size == 4 ? (uint32_t)value : (*target & ~0xffffULL) | (uint16_t)value;
}

static int population_count(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    struct corral_page_fault fault;
    unsigned size = width(i);
    uint64_t value = 0;
    if (i->is_memory) {
        enum corral_access_result result = corral_access(v, i->address, &value, size, false, &fault);
        if (result != CORRAL_ACCESS_OK)
            return failed_access(v, result, &fault);
    } else {
        value = *corral_register(regs, i->rm) & (~0ULL >> (64 - 8 * size));
    }
    regs->rflags = (regs->rflags & ~RFLAGS_ARITHMETIC) | (value ? 0 : RFLAGS_ZF);
    set_register(v, i->reg, __builtin_popcountll(value), size);
    return advance(v, i, CORRAL_POPCNT);
}

static int random_number(struct corral_vcpu *v, const struct corral_instruction *i, bool seed)
{
    struct kvm_regs *regs = &corral_assist_state(v)->regs;
    unsigned long long value = 0;
    unsigned char ready;
    if (seed)
        __asm__ volatile("rdseed %0" : "=r"(value), "=@ccc"(ready));
    else
        __asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(ready));
    regs->rflags = (regs->rflags & ~RFLAGS_ARITHMETIC) | (ready ? RFLAGS_CF : 0);
    set_register(v, i->rm, ready ? value : 0, width(i));
    return advance(v, i, CORRAL_RANDOM);
}

/* 0F 01: a group whose members have register operands only. */
static int group_7(struct corral_vcpu *v, const struct corral_instruction *i)
{
    switch (i->modrm) {
    case 0xca:
    case 0xcb:
        return clac_stac(v, i);
    case 0xd0:
    case 0xd1:
        return xcr(v, i);
    case 0xe8: /* SERIALIZE: the exit was one */
        return advance(v, i, CORRAL_BARRIER);
    }
    return UNKNOWN;
}

/* 0F AE */
static int group_15(struct corral_vcpu *v, const struct corral_instruction *i)
{
    unsigned operation = i->modrm >> 3 & 7;
    if (!i->is_memory) /* LFENCE, MFENCE, SFENCE */
        return operation >= 5 && !i->rep && !i->repne ? advance(v, i, CORRAL_BARRIER) : UNKNOWN;
    switch (operation) {
    case 2:
    case 3:
        return i->rep || i->repne || i->operand_size ? UNKNOWN : mxcsr(v, i, operation == 2);
    case 4:
        return i->rep || i->operand_size ? UNKNOWN : save(v, i, false, false);
    case 5:
        return restore(v, i, false);
    case 6: /* with 66 it is CLWB: nothing is cached behind our back */
        return i->operand_size ? advance(v, i, CORRAL_BARRIER) : i->rep ? UNKNOWN : save(v, i, false, true);
    case 7: /* CLFLUSH, CLFLUSHOPT */
        return advance(v, i, CORRAL_BARRIER);
    }
    return UNKNOWN;
}

/* 0F C7 */
static int group_9(struct corral_vcpu *v, const struct corral_instruction *i)
{
    unsigned operation = i->modrm >> 3 & 7;
    if (!i->is_memory)
        return operation == 6 ? random_number(v, i, false) : operation == 7 ? random_number(v, i, true) : UNKNOWN;
    switch (operation) {
    case 1:
        return compare_exchange(v, i);
    case 3:
        return restore(v, i, true);
    case 4:
        return save(v, i, true, true);
    case 5:
        return save(v, i, true, true);
    }
    return UNKNOWN;
}

static int by_opcode(struct corral_vcpu *v, const struct corral_instruction *i)
{
    switch (i->opcode) {
    case 0x0f01:
        return group_7(v, i);
    case 0x0fae:
        return group_15(v, i);
    case 0x0fc7:
        return group_9(v, i);
    case 0x0fb8:
        return i->rep ? population_count(v, i) : UNKNOWN;
    case 0x0f0b:
        return undefined(v);
    case 0x009b: /* FWAIT: an x87 exception that is pending is not ours to raise, and kernels mask them */
        return advance(v, i, CORRAL_BARRIER);
    case 0x00cc: /* INT3 and INT1 are traps: the frame holds the address after them */
    case 0x00f1:
        advance(v, i, CORRAL_BREAKPOINT);
        return deliver(v, i->opcode == 0xcc ? VECTOR_BP : VECTOR_DB, false, 0, CORRAL_BREAKPOINT);
    }
    return UNKNOWN;
}

int corral_assist_complete(struct corral_vcpu *v, const uint8_t *bytes, size_t size)
{
    const struct kvm_sync_regs *s = corral_assist_state(v);
    struct corral_instruction instruction;
    if (!corral_decode(&instruction, bytes, size, &s->regs, &s->sregs))
        return UNKNOWN;
    return by_opcode(v, &instruction);
}

int corral_assist_finish(struct corral_vcpu *v)
{
    struct kvm_run *run = v->run;
    struct kvm_sync_regs *s = corral_assist_state(v);
    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || !v->assist)
        return UNKNOWN;
    if (!(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return UNKNOWN;
    if (ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s->sregs) < 0)
        return -errno;
    return corral_assist_complete(v, run->emulation_failure.insn_bytes, run->emulation_failure.insn_size);
}

struct corral_assist *corral_assist_create(void)
{
    return calloc(1, sizeof(struct corral_assist));
}

void corral_assist_destroy(struct corral_assist *a)
{
    free(a);
}
