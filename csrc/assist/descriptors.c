#include "descriptors.h"
#include "guest_access.h"

#define LDT 4u /* of a selector */

bool corral_read_gate(struct corral_vcpu *v, uint8_t vector, struct corral_gate *gate)
{
    const struct kvm_sregs *sregs = &v->run->s.regs.sregs;
    unsigned size = sregs->efer & CORRAL_EFER_LMA ? 16 : 8, at = vector * size;
    uint64_t words[2] = {0};
    if (at + size - 1 > sregs->idt.limit || !corral_read_system(v, sregs->idt.base + at, words, size))
        return false;
    uint64_t low = words[0];
    *gate = (struct corral_gate){
        .offset = (low & 0xffff) | (low >> 32 & 0xffff0000) | words[1] << 32,
        .type = low >> 40 & 15,
        .system = !(low >> 44 & 1),
        .dpl = low >> 45 & 3,
        .present = low >> 47 & 1,
    };
    return true;
}

bool corral_read_segment(struct corral_vcpu *v, uint16_t selector, struct kvm_segment *segment)
{
    const struct kvm_sregs *sregs = &v->run->s.regs.sregs;
    bool local = selector & LDT;
    uint64_t base = local ? sregs->ldt.base : sregs->gdt.base, d;
    uint32_t limit = local ? sregs->ldt.limit : sregs->gdt.limit, at = selector & ~(LDT | CORRAL_RPL);
    if (!(selector & ~CORRAL_RPL) || at + sizeof d - 1 > limit || !corral_read_system(v, base + at, &d, sizeof d))
        return false;
    uint32_t units = (d & 0xffff) | (d >> 32 & 0xf0000);
    *segment = (struct kvm_segment){
        .base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000),
        .limit = d >> 55 & 1 ? units << 12 | 0xfff : units,
        .selector = selector,
        .type = d >> 40 & 15,
        .s = d >> 44 & 1,
        .dpl = d >> 45 & 3,
        .present = d >> 47 & 1,
        .avl = d >> 52 & 1,
        .l = d >> 53 & 1,
        .db = d >> 54 & 1,
        .g = d >> 55 & 1,
    };
    return true;
}
