/* Instructions at CPL 3 that KVM's interpreter lacks: it does not tell of them, and gives the guest #UD.
 *
 * That is seen where the guest begins to handle it, and taken back (docs/assist.md): the user's state is put
 * together again from the frame, and the instruction completed as everywhere else. Where #UD has a gate, its entry
 * is watched by a debug register; the gate is known from LIDT, which is watched too, where the kernel's image has
 * one. Linux's entry begins with CLAC. Where #UD has no gate, the guest's end is the sign. */
#include "completion.h"
#include "descriptors.h"

#include <errno.h>
#include <sys/ioctl.h>

#define DR7_ENABLE(slot) (1u << 2 * (slot))
#define DR6_STEP (1ULL << 14)
/* So many instructions behind LIDT a system may fill its table; a gate is complete when it has not changed for
 * some. */
#define MOST_STEPS 20000
#define SETTLED 64

static int debug(struct corral_vcpu *v, uint32_t control, const uint64_t *points, unsigned count)
{
    struct kvm_guest_debug d = {.control = control};
    for (unsigned n = 0; n < count; n++) {
        d.arch.debugreg[n] = points[n];
        d.arch.debugreg[7] |= DR7_ENABLE(n);
    }
    return ioctl(v->fd, KVM_SET_GUEST_DEBUG, &d) < 0 ? -errno : CORRAL_FINISHED;
}

/* Watches the entry of #UD's gate, when that is known, and each LIDT. */
static int watch(struct corral_vcpu *v)
{
    const struct corral_user_watch *w = &v->assist->user;
    uint64_t points[CORRAL_LIDTS + 1];
    unsigned count = 0;
    for (; count < w->n_lidt; count++)
        points[count] = w->lidt[count];
    if (w->entry)
        points[count++] = w->entry;
    return debug(v, count ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP : 0, points, count);
}

static int step(struct corral_vcpu *v)
{
    return debug(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, NULL, 0);
}

int corral_assist_watch(struct corral_vcpu *v, const uint64_t *lidt, unsigned count)
{
    struct corral_user_watch *w = &v->assist->user;
    w->n_lidt = count < CORRAL_LIDTS ? count : CORRAL_LIDTS;
    for (unsigned n = 0; n < w->n_lidt; n++)
        w->lidt[n] = lidt[n];
    w->set_up = true;
    return corral_assist_watch_again(v, true);
}

int corral_assist_watch_again(struct corral_vcpu *v, bool on)
{
    struct corral_user_watch *w = &v->assist->user;
    w->on = on && w->set_up;
    w->filling = false;
    return w->on && watch(v) < 0 ? -errno : 0;
}

/* The state before a #UD, from its frame on the stack, which RIP at the gate's entry stands for. False: it was
 * none of CPL 3. */
static bool unwind(struct corral_vcpu *v)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    struct {
        uint64_t rip, cs, rflags, rsp, ss;
    } f;
    struct kvm_segment code, stack;
    if (s->sregs.efer & CORRAL_EFER_LMA) {
        if (!corral_read_system(v, s->regs.rsp, &f, sizeof f))
            return false;
    } else {
        uint32_t words[5];
        if (!corral_read_system(v, (uint32_t)(s->sregs.ss.base + s->regs.rsp), words, sizeof words))
            return false;
        f.rip = words[0], f.cs = words[1], f.rflags = words[2], f.rsp = words[3], f.ss = words[4];
    }
    if ((f.cs & CORRAL_RPL) != 3 || !corral_read_segment(v, f.cs, &code) || !corral_read_segment(v, f.ss, &stack))
        return false;
    code.dpl = 3;
    s->sregs.cs = code;
    s->sregs.ss = stack;
    s->regs.rip = f.rip;
    s->regs.rsp = f.rsp;
    s->regs.rflags = f.rflags & ~RFLAGS_RF;
    return true;
}

/* Completes the instruction at CPL 3 that the state is at. Unknown leaves the state as `before`. */
static int complete(struct corral_vcpu *v, const struct kvm_sync_regs *before, uint64_t dirty)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    bool interrupts_only = s->sregs.cs.l; /* all else runs natively: what is invalid there is that */
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    s->events.exception.injected = 0;
    int result = corral_assist_complete_user(v, interrupts_only);
    bool invalid = result > 0 && s->events.exception.injected && s->events.exception.nr == CORRAL_UD;
    if (result < 0 || (result > 0 && !invalid))
        return result;
    *s = *before;
    v->run->kvm_dirty_regs = dirty;
    return CORRAL_UNKNOWN;
}

int corral_assist_take_back(struct corral_vcpu *v)
{
    const struct kvm_sync_regs before = *corral_assist_state(v);
    uint64_t dirty = v->run->kvm_dirty_regs;
    if (unwind(v))
        return complete(v, &before, dirty);
    *corral_assist_state(v) = before;
    return CORRAL_UNKNOWN;
}

bool corral_assist_at_invalid_opcode(struct corral_vcpu *v)
{
    const struct kvm_sync_regs *s = corral_assist_state(v);
    struct corral_gate gate;
    return !s->sregs.cs.dpl && corral_read_gate(v, CORRAL_UD, &gate) && gate.present && gate.offset == s->regs.rip;
}

static int fetch_state(struct corral_vcpu *v)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    return ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s->sregs) < 0 ? -errno : 0;
}

int corral_assist_shutdown(struct corral_vcpu *v)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    int result = fetch_state(v);
    if (result < 0 || s->sregs.cs.dpl != 3)
        return result;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events) < 0)
        return -errno;
    if (s->events.exception.nr != CORRAL_UD)
        return CORRAL_UNKNOWN;
    const struct kvm_sync_regs before = *s;
    s->regs.rflags &= ~RFLAGS_RF;
    return complete(v, &before, v->run->kvm_dirty_regs);
}

static uint64_t entry_of_invalid_opcode(struct corral_vcpu *v)
{
    struct corral_gate gate;
    return corral_read_gate(v, CORRAL_UD, &gate) && gate.present ? gate.offset : 0;
}

/* LIDT, which the vCPU is at: done here, for KVM would stop at it again. */
static int load_table(struct corral_vcpu *v)
{
    struct corral_user_watch *w = &v->assist->user;
    int result = corral_assist_complete(v, NULL, 0);
    if (result <= 0)
        return result;
    w->entry = entry_of_invalid_opcode(v);
    if (w->entry)
        return watch(v);
    w->steps = w->settled = 0;
    w->filling = true;
    return step(v);
}

/* After a step of a system that fills its table. True: the gate is complete, or will not be. */
static bool is_filled(struct corral_vcpu *v)
{
    struct corral_user_watch *w = &v->assist->user;
    uint64_t entry = entry_of_invalid_opcode(v);
    w->settled = entry && entry == w->entry ? w->settled + 1 : 0;
    w->entry = entry;
    return w->settled == SETTLED || ++w->steps == MOST_STEPS;
}

int corral_assist_follow_table(struct corral_vcpu *v)
{
    struct corral_user_watch *w = &v->assist->user;
    uint64_t entry = w->on && !w->filling ? entry_of_invalid_opcode(v) : w->entry;
    if (entry == w->entry)
        return 0;
    w->entry = entry;
    return watch(v);
}

int corral_assist_watch_on(struct corral_vcpu *v, const uint64_t *lidt, unsigned count)
{
    int result = fetch_state(v);
    if (result < 0)
        return result;
    v->assist->user.entry = entry_of_invalid_opcode(v);
    return corral_assist_watch(v, lidt, count);
}

int corral_assist_debug(struct corral_vcpu *v)
{
    struct corral_user_watch *w = &v->assist->user;
    if (!w->on)
        return CORRAL_UNKNOWN;
    int result = fetch_state(v);
    if (result < 0)
        return result;
    if (w->filling && !is_filled(v))
        return step(v);
    w->filling = false;
    if (v->run->debug.arch.dr6 & DR6_STEP)
        return watch(v);
    if (corral_assist_at_invalid_opcode(v)) {
        result = corral_assist_take_back(v);
        return result ? result : step(v);
    }
    result = load_table(v);
    return result ? result : step(v);
}
