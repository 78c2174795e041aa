/* Instructions that only compute: the host's CPU does them, on the guest's registers and a copy of the operand.
 *
 * What the instruction does to the copy becomes the guest's only when all of it has succeeded. */
#include "completion.h"
#include "trampoline.h"
#include "xsave.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define PAGE 4096ULL
#define FWAIT CORRAL_OPCODE(0, 0x9b)

/* What a CPU looks at before it does anything with x87 or vectors (SDM 2A, 2.4; 3A, 2.5). 0: go on. */
static int refused(struct corral_vcpu *v, const struct corral_instruction *i, uint64_t xcr0)
{
    const struct kvm_sregs *sregs = &corral_assist_state(v)->sregs;
    bool emulated = sregs->cr0 & CR0_EM, switched = sregs->cr0 & CR0_TS;
    if (i->opcode == FWAIT)
        return switched && (sregs->cr0 & CR0_MP) ? corral_deliver(v, CORRAL_NM) : 0;
    if (i->opcode >> 8 == 0) /* x87 */
        return switched || emulated ? corral_deliver(v, CORRAL_NM) : 0;

    bool available;
    if (i->encoding == CORRAL_LEGACY) {
        bool mmx = (i->form->flags & CORRAL_MMX) && i->prefix == CORRAL_NONE;
        available = !emulated && (mmx || (sregs->cr4 & CR4_OSFXSR));
    } else {
        bool avx512 = i->encoding == CORRAL_EVEX || (i->form->flags & CORRAL_OPMASK);
        uint64_t needed = XCR0_SSE | XCR0_AVX | (avx512 ? XCR0_AVX512 : 0);
        available = (sregs->cr4 & CR4_OSXSAVE) && (xcr0 & needed) == needed;
    }
    if (!available)
        return corral_deliver(v, CORRAL_UD);
    return switched ? corral_deliver(v, CORRAL_NM) : 0;
}

/* The operand's copy. It is as long as any can be; of its two pages only those count that the guest can reach, and
 * the CPU is the one to know whether it needs the others: masks may spare them. */
struct operand {
    uint8_t *window;
    size_t begin, end; /* what can be reached */
};

static struct operand operand_at(struct corral_vcpu *v, uint64_t address, bool write)
{
    struct corral_page_fault unused;
    size_t in_page = PAGE - address % PAGE, size = CORRAL_WINDOW_SPAN;
    bool first = corral_access_check(v, address, 1, write, &unused) == CORRAL_ACCESS_OK, second = first;
    if (in_page < size) {
        second = corral_access_check(v, address + in_page, 1, write, &unused) == CORRAL_ACCESS_OK;
        size = in_page;
    }
    uint8_t *window = corral_trampoline_window(v->assist->trampoline, address, first, second);
    return (struct operand){window, first ? 0 : size, second ? CORRAL_WINDOW_SPAN : first ? size : 0};
}

/* Fills the copy. False: another vCPU has just unmapped what could be reached. */
static bool load(struct corral_vcpu *v, uint64_t address, const struct operand *o)
{
    struct corral_page_fault unused;
    return o->begin >= o->end || corral_access(v, address + o->begin, o->window + o->begin, o->end - o->begin,
                                               false, &unused) == CORRAL_ACCESS_OK;
}

/* Writes what the instruction has stored: the bytes that are equal after it ran over two complementary grounds. So
 * masks and widths are the CPU's own, and no byte beside them changes. */
static enum corral_access_result store(struct corral_vcpu *v, uint64_t address, const struct operand *o,
                                       uint8_t *over_zeros, struct corral_page_fault *fault)
{
    /* First whether all can be written, then the writing: a fault leaves everything as it was. */
    for (int writing = 0; writing < 2; writing++) {
        for (size_t at = o->begin, end; at < o->end; at = end + 1) {
            for (end = at; end < o->end && over_zeros[end] == o->window[end];)
                end++;
            if (end == at)
                continue;
            enum corral_access_result result =
                writing ? corral_access(v, address + at, over_zeros + at, end - at, true, fault)
                        : corral_access_check(v, address + at, end - at, true, fault);
            if (result != CORRAL_ACCESS_OK)
                return result;
        }
    }
    return CORRAL_ACCESS_OK;
}

/* The CPU wanted what the copy does not have. */
static int absent(struct corral_vcpu *v, uint64_t address, bool write)
{
    struct corral_page_fault fault;
    enum corral_access_result result = corral_access_check(v, address, 1, write, &fault);
    if (result == CORRAL_ACCESS_OK) /* another vCPU has mapped it meanwhile: do the instruction again */
        return CORRAL_FINISHED;
    return corral_failed_access(v, result, &fault);
}

static int cpu_fault(struct corral_vcpu *v, const struct corral_instruction *i, bool stores,
                     const struct corral_cpu_fault *raised)
{
    const struct kvm_sregs *sregs = &corral_assist_state(v)->sregs;
    switch (raised->vector) {
    case CORRAL_PF:
        if (!raised->absent || raised->offset >= CORRAL_WINDOW_SPAN)
            return CORRAL_UNKNOWN;
        return absent(v, i->address + raised->offset, stores);
    case CORRAL_XM:
        return corral_deliver(v, sregs->cr4 & CR4_OSXMMEXCPT ? CORRAL_XM : CORRAL_UD);
    case CORRAL_MF: /* without NE it is an interrupt of the chipset's */
        return sregs->cr0 & CR0_NE ? corral_deliver(v, CORRAL_MF) : CORRAL_UNKNOWN;
    case CORRAL_UD:
    case CORRAL_GP:
        return corral_deliver(v, raised->vector);
    }
    return CORRAL_UNKNOWN;
}

int corral_complete_natively(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    bool has_state = !(i->form->flags & CORRAL_NO_STATE);
    bool stores = i->is_memory && (i->form->flags & CORRAL_STORES);
    uint8_t *before = (uint8_t *)&v->assist->xsave;
    uint32_t features = 0;

    if (has_state) {
        /* Legacy encodings touch no more than these, and to ask is an ioctl. */
        uint64_t xcr0 = XCR0_X87 | XCR0_SSE;
        int result = i->encoding == CORRAL_LEGACY ? 0 : corral_enabled_features(v, &xcr0);
        if (result || (result = refused(v, i, xcr0)))
            return result;
        features = XCR0_X87 | XCR0_SSE | (xcr0 & (XCR0_AVX | XCR0_AVX512));
        if (!corral_xsave_size(features, false))
            return CORRAL_UNKNOWN;
        if (ioctl(v->fd, KVM_GET_XSAVE, before) < 0)
            return -errno;
    }
    if (!v->assist->trampoline)
        return -v->assist->no_trampoline;

    struct corral_trampoline *t = v->assist->trampoline;
    struct operand o = {0};
    if (i->is_memory) {
        o = operand_at(v, i->address, stores);
        if (!stores && !load(v, i->address, &o))
            return CORRAL_FINISHED; /* do it again */
    }
    uint8_t over_zeros[CORRAL_WINDOW_SPAN];
    uint8_t *xsave = corral_trampoline_xsave(t);
    struct corral_cpu_fault raised = {0};
    bool finished = true;
    for (int ground = 0; ground <= stores && finished; ground++) {
        if (stores) {
            for (size_t at = o.begin; at < o.end; at++) {
                over_zeros[at] = o.window[at]; /* of the run before */
                o.window[at] = ground ? 0xff : 0;
            }
        }
        *corral_trampoline_regs(t) = s->regs;
        if (has_state)
            memcpy(xsave, before, CORRAL_XSAVE_SIZE);
        finished = corral_trampoline_run(t, i, o.window, features, &raised);
    }
    if (finished && stores) {
        struct corral_page_fault fault;
        enum corral_access_result result = store(v, i->address, &o, over_zeros, &fault);
        if (result != CORRAL_ACCESS_OK)
            return corral_failed_access(v, result, &fault);
    }
    /* #XM leaves its reason in MXCSR. A store may leave all as it was, which saves half of the time. */
    bool keeps = finished || raised.vector == CORRAL_XM;
    if (has_state && keeps && memcmp(xsave, before, CORRAL_XSAVE_SIZE)) {
        xsave[CORRAL_XSAVE_LEGACY] |= XCR0_SSE; /* or MXCSR would not count */
        if (ioctl(v->fd, KVM_SET_XSAVE, xsave) < 0)
            return -errno;
    }
    if (!finished)
        return cpu_fault(v, i, stores, &raised);
    uint64_t rsp = s->regs.rsp, rip = s->regs.rip;
    s->regs = *corral_trampoline_regs(t);
    s->regs.rsp = rsp;
    s->regs.rip = rip;
    return corral_advance(v, i, CORRAL_NATIVELY);
}
