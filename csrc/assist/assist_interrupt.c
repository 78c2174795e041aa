/* Software interrupts, the table of their gates, and the return from an interrupt in 32-bit code. */
#include "completion.h"
#include "descriptors.h"

#include <errno.h>
#include <sys/ioctl.h>

#define IDT_ERROR(vector) ((uint32_t)(vector) << 3 | 2)

enum { TASK_GATE = 5, INTERRUPT_GATE = 0xe, TRAP_GATE = 0xf, OF_16_BITS = 8 };
enum { CODE = 8, CONFORMING = 4, WRITABLE = 2 }; /* types of segments */

/* EFLAGS that IRET loads at any level (SDM 2A, IRET). */
#define RETURNED 0x254dd5u

static unsigned cpl(struct corral_vcpu *v)
{
    return corral_assist_state(v)->sregs.cs.dpl;
}

/* Whether a CPU would take the gate (SDM 2A, INT n). False: result is what comes of it instead. */
static bool is_open(struct corral_vcpu *v, uint8_t vector, int *result)
{
    struct corral_gate gate;
    bool wide = corral_assist_state(v)->sregs.efer & CORRAL_EFER_LMA;
    bool found = corral_read_gate(v, vector, &gate) && gate.system;
    unsigned type = !found ? 0 : wide ? gate.type : gate.type | OF_16_BITS;
    if (found && !wide && gate.type == TASK_GATE)
        *result = CORRAL_UNKNOWN;
    else if ((type != INTERRUPT_GATE && type != TRAP_GATE) || gate.dpl < cpl(v))
        *result = corral_deliver_code(v, CORRAL_GP, IDT_ERROR(vector));
    else if (!gate.present)
        *result = corral_deliver_code(v, CORRAL_NP, IDT_ERROR(vector));
    else
        return true;
    return false;
}

/* INT n arrives as an interrupt would: KVM knows how to deliver that. */
static int interrupt(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_vcpu_events *events = &corral_assist_state(v)->events;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, events) < 0)
        return -errno;
    events->exception.injected = 0;
    events->interrupt.injected = 1;
    events->interrupt.nr = i->immediate;
    events->interrupt.soft = 0;
    events->flags = 0;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    return corral_advance(v, i, CORRAL_INTERRUPT);
}

/* A trap: the frame holds the address after it. */
static int trap(struct corral_vcpu *v, const struct corral_instruction *i, enum corral_vector vector)
{
    corral_advance(v, i, CORRAL_INTERRUPT);
    return corral_deliver(v, vector);
}

int corral_complete_interrupt(struct corral_vcpu *v, const struct corral_instruction *i)
{
    const struct kvm_sync_regs *s = corral_assist_state(v);
    int result;
    switch (i->opcode & 0xff) {
    case 0xcc:
        return is_open(v, CORRAL_BP, &result) ? trap(v, i, CORRAL_BP) : result;
    case 0xcd:
        return is_open(v, i->immediate, &result) ? interrupt(v, i) : result;
    case 0xce:
        if (s->sregs.cs.l)
            return corral_deliver(v, CORRAL_UD);
        if (!(s->regs.rflags & RFLAGS_OF))
            return corral_advance(v, i, CORRAL_INTERRUPT);
        return is_open(v, CORRAL_OF, &result) ? trap(v, i, CORRAL_OF) : result;
    case 0xf1: /* as a debugger's hardware: through any gate */
        return trap(v, i, CORRAL_DB);
    }
    return CORRAL_UNKNOWN;
}

/* The frame of an interrupt in 32-bit code; the last two are there when it came from an outer level. */
struct frame {
    uint32_t eip, cs, eflags, esp, ss;
};

static bool is_code(const struct kvm_segment *s, unsigned rpl)
{
    return s->s && (s->type & CODE) && (s->type & CONFORMING ? s->dpl <= rpl : s->dpl == rpl);
}

static bool is_stack(const struct kvm_segment *s, unsigned rpl)
{
    return s->s && !(s->type & CODE) && (s->type & WRITABLE) && s->dpl == rpl && (s->selector & CORRAL_RPL) == rpl;
}

static uint32_t returned_flags(uint64_t now, uint32_t popped, unsigned level)
{
    uint32_t loaded = RETURNED | (level ? 0 : RFLAGS_IOPL);
    if (level <= (now & RFLAGS_IOPL) >> 12)
        loaded |= RFLAGS_IF;
    return (now & ~loaded) | (popped & loaded) | RFLAGS_FIXED;
}

/* What an outer level may not have is taken from it (SDM 2A, IRET, "return to outer privilege level"). */
static void drop_inner_segments(struct kvm_sregs *sregs, unsigned rpl)
{
    struct kvm_segment *segments[] = {&sregs->ds, &sregs->es, &sregs->fs, &sregs->gs};
    for (unsigned n = 0; n < sizeof segments / sizeof *segments; n++) {
        struct kvm_segment *s = segments[n];
        bool conforming = (s->type & CODE) && (s->type & CONFORMING);
        if (!s->unusable && s->dpl < rpl && !conforming)
            *s = (struct kvm_segment){.unusable = 1};
    }
}

/* Protected mode alone: KVM has the IRET of real and of long mode. Not to tasks, nor to virtual-8086 mode. */
int corral_complete_iret(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_sync_regs *s = corral_assist_state(v);
    struct corral_page_fault fault;
    struct kvm_segment code, stack;
    struct frame f = {0};
    uint32_t esp = s->regs.rsp, size = 12;
    unsigned level = cpl(v);
    if (!(s->sregs.cr0 & CR0_PE) || (s->sregs.efer & CORRAL_EFER_LMA) || i->operand_size || !s->sregs.ss.db ||
        (s->regs.rflags & (RFLAGS_NT | RFLAGS_VM)))
        return CORRAL_UNKNOWN;
    enum corral_access_result result =
        corral_access(v, (uint32_t)(s->sregs.ss.base + esp), &f, size, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return corral_failed_access(v, result, &fault);
    if (f.eflags & RFLAGS_VM)
        return CORRAL_UNKNOWN;

    unsigned rpl = f.cs & CORRAL_RPL;
    uint16_t cs = f.cs, error = cs & ~CORRAL_RPL;
    if (rpl < level || !corral_read_segment(v, cs, &code) || !is_code(&code, rpl))
        return corral_deliver_code(v, CORRAL_GP, error);
    if (!code.present)
        return corral_deliver_code(v, CORRAL_NP, error);
    if (f.eip > code.limit)
        return corral_deliver(v, CORRAL_GP);
    if (rpl > level) {
        size = sizeof f;
        result = corral_access(v, (uint32_t)(s->sregs.ss.base + esp), &f, size, false, &fault);
        if (result != CORRAL_ACCESS_OK)
            return corral_failed_access(v, result, &fault);
        uint16_t ss = f.ss;
        if (!corral_read_segment(v, ss, &stack) || !is_stack(&stack, rpl))
            return corral_deliver_code(v, CORRAL_GP, ss & ~CORRAL_RPL);
        if (!stack.present)
            return corral_deliver_code(v, CORRAL_SS, ss & ~CORRAL_RPL);
    }

    uint32_t flags = returned_flags(s->regs.rflags, f.eflags, level);
    s->sregs.cs = code;
    s->sregs.cs.dpl = rpl;
    s->regs.rsp = rpl > level ? f.esp : esp + size;
    if (rpl > level) {
        s->sregs.ss = stack;
        drop_inner_segments(&s->sregs, rpl);
    }
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    v->assist->completed[CORRAL_INTERRUPT]++;
    s->regs.rip = f.eip;
    s->regs.rflags = flags;
    return CORRAL_FINISHED;
}

int corral_complete_lidt(struct corral_vcpu *v, const struct corral_instruction *i)
{
    struct kvm_sregs *sregs = &corral_assist_state(v)->sregs;
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } table = {0};
    struct corral_page_fault fault;
    if (cpl(v))
        return corral_deliver(v, CORRAL_GP);
    enum corral_access_result result = corral_access(v, i->address, &table, sregs->cs.l ? 10 : 6, false, &fault);
    if (result != CORRAL_ACCESS_OK)
        return corral_failed_access(v, result, &fault);
    if (!sregs->cs.l && i->operand_size)
        table.base &= 0xffffff;
    sregs->idt.base = table.base;
    sregs->idt.limit = table.limit;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    return corral_advance(v, i, CORRAL_INTERRUPT);
}
