/* CLAC and STAC, and what CLAC gives away. */
#include "completion.h"

#include <errno.h>
#include <sys/ioctl.h>

#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_FMASK 0xc0000084

/* Present, user, instruction fetch: what a fetch at CPL 3 from a supervisor page faults with. */
#define FETCH_FAULT 0x15

/* SYSCALL at CPL 3 arrives as a page fault at LSTAR (docs/assist.md); the handler's first instruction is CLAC,
 * where it is told from a real fault by its frame: a fetch from the entry point itself, at CPL 3. */
static int complete_syscall(struct corral_vcpu *v)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    struct {
        uint64_t code, rip, cs, rflags, rsp, ss;
    } frame;
    struct corral_page_fault fault;
    if (corral_access(v, s->regs.rsp, &frame, sizeof frame, false, &fault) != CORRAL_ACCESS_OK)
        return CORRAL_UNKNOWN;
    if (frame.code != FETCH_FAULT || frame.rip != s->sregs.cr2 || (frame.cs & 3) != 3)
        return CORRAL_UNKNOWN;

    struct { /* a kvm_msrs and its entries */
        uint32_t nmsrs, pad;
        struct kvm_msr_entry star, lstar, fmask;
    } msrs = {3, 0, {.index = MSR_STAR}, {.index = MSR_LSTAR}, {.index = MSR_FMASK}};
    if (ioctl(v->fd, KVM_GET_MSRS, &msrs) != 3)
        return -EIO;
    if (frame.rip != msrs.lstar.data)
        return CORRAL_UNKNOWN;

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
    return CORRAL_FINISHED;
}

int corral_complete_clac_stac(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    if (corral_at_cpl_3(v))
        return corral_deliver(v, CORRAL_UD);
    if (i->modrm == 0xcb) {
        s->regs.rflags |= RFLAGS_AC;
        return corral_advance(v, i, CORRAL_STAC);
    }
    /* CR2 keeps the address of the last fault, so this is tried at a few CLACs too many and at no wrong one. */
    int result = s->sregs.cr2 >> 63 ? complete_syscall(v) : CORRAL_UNKNOWN;
    if (result == CORRAL_UNKNOWN && corral_assist_at_invalid_opcode(v))
        result = corral_assist_take_back(v);
    if (result != CORRAL_UNKNOWN)
        return result;
    s->regs.rflags &= ~RFLAGS_AC;
    return corral_advance(v, i, CORRAL_CLAC);
}
