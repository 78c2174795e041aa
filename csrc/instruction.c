#include "instruction.h"

#include <string.h>

#define REX_B 1
#define REX_X 2
#define REX_R 4
#define REX_W 8
#define TWO_BYTES 0x0f

/* Bytes of one instruction, read in order. */
struct cursor {
    const uint8_t *at, *end;
    bool cut_off;
};

static uint8_t next(struct cursor *c)
{
    if (c->at == c->end) {
        c->cut_off = true;
        return 0;
    }
    return *c->at++;
}

static int64_t displacement(struct cursor *c, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint32_t)next(c) << 8 * i;
    return size == 1 ? (int8_t)value : (int32_t)value;
}

uint64_t *corral_register(struct kvm_regs *regs, unsigned number)
{
    static const uint8_t offsets[16] = {
        offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rdx),
        offsetof(struct kvm_regs, rbx), offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
        offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi), offsetof(struct kvm_regs, r8),
        offsetof(struct kvm_regs, r9),  offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
        offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13), offsetof(struct kvm_regs, r14),
        offsetof(struct kvm_regs, r15),
    };
    return (uint64_t *)((uint8_t *)regs + offsets[number & 15]);
}

static uint64_t value_of(const struct kvm_regs *regs, unsigned number)
{
    return *corral_register((struct kvm_regs *)regs, number);
}

/* ModRM and SIB (SDM 2A, 2.1.5 and 2.2.1): the offset within the segment; `relative` is set for RIP-relative. */
static uint64_t effective(struct cursor *c, uint8_t modrm, uint8_t rex, bool long_mode,
                          const struct kvm_regs *regs, bool *relative)
{
    unsigned mod = modrm >> 6, rm = modrm & 7;
    uint64_t address = 0;
    bool no_base = mod == 0 && rm == 5;
    *relative = no_base && long_mode;
    if (rm == 4) {
        uint8_t sib = next(c);
        unsigned index = (sib >> 3 & 7) | (rex & REX_X ? 8 : 0), base = sib & 7;
        if (index != 4)
            address += value_of(regs, index) << (sib >> 6);
        no_base = mod == 0 && base == 5;
        if (!no_base)
            address += value_of(regs, base | (rex & REX_B ? 8 : 0));
    } else if (!no_base) {
        address += value_of(regs, rm | (rex & REX_B ? 8 : 0));
    }
    if (mod == 1)
        address += displacement(c, 1);
    else if (mod == 2 || no_base)
        address += displacement(c, 4);
    return address;
}

/* Of the opcodes that are completed: one-byte ones and these have none. */
static bool has_modrm(uint16_t opcode)
{
    return opcode >> 8 == TWO_BYTES && opcode != 0x0f05 && opcode != 0x0f07 && opcode != 0x0f0b;
}

bool corral_decode(struct corral_instruction *i, const uint8_t *bytes, size_t size, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs)
{
    struct cursor c = {bytes, bytes + (size < CORRAL_LONGEST_INSTRUCTION ? size : CORRAL_LONGEST_INSTRUCTION),
                       false};
    bool long_mode = sregs->cs.l, address_32 = !long_mode;
    const struct kvm_segment *segment = NULL;
    uint8_t byte, rex = 0;

    memset(i, 0, sizeof *i);
    for (;;) {
        byte = next(&c);
        switch (byte) {
        case 0x66:
            i->operand_size = true;
            continue;
        case 0x67:
            if (!long_mode)
                return false;
            address_32 = true;
            continue;
        case 0xf0:
            i->lock = true;
            continue;
        case 0xf2:
            i->repne = true;
            continue;
        case 0xf3:
            i->rep = true;
            continue;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            continue; /* flat in 64-bit mode, and in the flat 32-bit code that boots */
        case 0x64:
            segment = &sregs->fs;
            continue;
        case 0x65:
            segment = &sregs->gs;
            continue;
        }
        break;
    }
    if (long_mode && (byte & 0xf0) == 0x40) { /* the last prefix, or none */
        rex = byte;
        byte = next(&c);
    }
    i->rex_w = rex & REX_W;
    i->opcode = byte;
    if (byte == TWO_BYTES)
        i->opcode = TWO_BYTES << 8 | next(&c);
    if (!has_modrm(i->opcode)) {
        i->length = c.at - bytes;
        return !c.cut_off;
    }
    i->modrm = next(&c);
    i->reg = (i->modrm >> 3 & 7) | (rex & REX_R ? 8 : 0);
    i->rm = (i->modrm & 7) | (rex & REX_B ? 8 : 0);
    i->is_memory = i->modrm >> 6 != 3;
    if (i->is_memory) {
        bool relative;
        i->address = effective(&c, i->modrm, rex, long_mode, regs, &relative);
        if (relative)
            i->address += regs->rip + (c.at - bytes);
        if (address_32)
            i->address = (uint32_t)i->address;
        if (segment)
            i->address += segment->base;
        if (!long_mode)
            i->address = (uint32_t)i->address;
    }
    i->length = c.at - bytes;
    return !c.cut_off;
}
