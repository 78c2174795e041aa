#include "forms.h"

#include <string.h>

#define REX_B 1
#define REX_X 2
#define REX_R 4
#define REX_W 8

/* Bytes of one instruction, read in order. */
struct cursor {
    const uint8_t *at, *end;
    bool cut_off;
};

static uint8_t peek(const struct cursor *c)
{
    return c->at < c->end ? *c->at : 0;
}

static uint8_t next(struct cursor *c)
{
    uint8_t byte = peek(c);
    if (c->at == c->end)
        c->cut_off = true;
    else
        c->at++;
    return byte;
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

/* What stands before the opcode and matters to the operands. */
struct prefixes {
    bool long_mode, address_size;
    const struct kvm_segment *segment; /* NULL: base 0 */
    uint8_t rex;                       /* in VEX and EVEX the same bits */
};

static uint8_t legacy_prefixes(struct cursor *c, struct corral_instruction *i, struct prefixes *p,
                               const struct kvm_sregs *sregs)
{
    enum corral_prefix repeat = CORRAL_NONE;
    for (;;) {
        uint8_t byte = next(c);
        switch (byte) {
        case 0x66:
            i->operand_size = true;
            continue;
        case 0x67:
            p->address_size = true;
            continue;
        case 0xf0:
            i->lock = true;
            continue;
        case 0xf2:
            repeat = CORRAL_F2;
            continue;
        case 0xf3:
            repeat = CORRAL_F3;
            continue;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            continue;
        case 0x64:
            p->segment = &sregs->fs;
            continue;
        case 0x65:
            p->segment = &sregs->gs;
            continue;
        }
        i->prefix = repeat ? repeat : i->operand_size ? CORRAL_66 : CORRAL_NONE;
        return byte;
    }
}

/* The segments of 32-bit code, as every system has them whose code KVM may have to interpret. */
static bool flat(const struct kvm_sregs *sregs)
{
    const struct kvm_segment *segments[] = {&sregs->cs, &sregs->ds, &sregs->es, &sregs->ss};
    for (unsigned n = 0; n < sizeof segments / sizeof *segments; n++)
        if (segments[n]->base || segments[n]->limit != UINT32_MAX)
            return false;
    return true;
}

/* VEX and EVEX prefixes (SDM 2A, 2.3.5 and 2.7.1). False: legacy prefixes, which they exclude, no map of ours, or
 * 32-bit mode, where some of the bits are ignored and the same bytes may be LES, LDS and BOUND. */
static bool vector_prefix(struct cursor *c, struct corral_instruction *i, struct prefixes *p)
{
    if (!p->long_mode || i->prefix != CORRAL_NONE || i->lock || p->rex)
        return false;
    i->head[0] = c->at[-1];
    i->head_size = i->head[0] == 0xc5 ? 2 : i->head[0] == 0xc4 ? 3 : 4;
    for (unsigned n = 1; n < i->head_size; n++)
        i->head[n] = next(c);
    i->encoding = i->head_size == 4 ? CORRAL_EVEX : CORRAL_VEX;

    uint8_t map = i->head_size == 2 ? 1 : i->head[1] & (i->encoding == CORRAL_EVEX ? 0x0f : 0x1f);
    uint8_t fields = i->head[i->head_size == 2 ? 1 : 2]; /* W vvvv L pp, with R for W in the short form */
    p->rex = ~i->head[1] >> 5 & (i->head_size == 2 ? REX_R : REX_R | REX_X | REX_B);
    i->rex_w = i->head_size > 2 && fields >> 7;
    i->vvvv = ~fields >> 3 & 15;
    i->prefix = fields & 3;
    i->opcode = CORRAL_OPCODE(map, next(c));
    bool fixed_bit = i->encoding == CORRAL_VEX || (fields & 4);
    return map >= 1 && map <= 3 && fixed_bit;
}

static void legacy_opcode(struct cursor *c, struct corral_instruction *i, struct prefixes *p, uint8_t byte)
{
    i->encoding = CORRAL_LEGACY;
    i->rex = p->rex;
    i->rex_w = p->rex & REX_W;
    unsigned map = 0;
    if (byte == 0x0f) {
        byte = next(c);
        map = byte == 0x38 ? 2 : byte == 0x3a ? 3 : 1;
        if (map > 1)
            byte = next(c);
    }
    i->opcode = CORRAL_OPCODE(map, byte);
}

/* What EVEX multiplies an 8-bit displacement with (SDM 2A, 2.7.5); 0: it is not known for this form. */
static unsigned displacement_scale(const struct corral_instruction *i)
{
    if (i->encoding != CORRAL_EVEX)
        return 1;
    bool broadcast = i->head[3] & 0x10;
    if (!(i->form->flags & CORRAL_FULL))
        return 0;
    return broadcast ? (i->rex_w ? 8 : 4) : 16u << (i->head[3] >> 5 & 3);
}

/* ModRM and SIB (SDM 2A, 2.1.5 and 2.2.1). RIP-relative addresses still lack the address of the next instruction.
 */
static bool effective(struct cursor *c, struct corral_instruction *i, const struct prefixes *p,
                      const struct kvm_regs *regs, bool *relative)
{
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    uint64_t address = 0;
    bool no_base = mod == 0 && rm == 5;
    *relative = no_base && p->long_mode;
    if (rm == 4) {
        uint8_t sib = next(c);
        unsigned index = (sib >> 3 & 7) | (p->rex & REX_X ? 8 : 0), base = sib & 7;
        if (index != 4)
            address += value_of(regs, index) << (sib >> 6);
        no_base = mod == 0 && base == 5;
        if (!no_base)
            address += value_of(regs, base | (p->rex & REX_B ? 8 : 0));
    } else if (!no_base) {
        address += value_of(regs, rm | (p->rex & REX_B ? 8 : 0));
    }
    if (mod == 1) {
        unsigned scale = displacement_scale(i);
        if (!scale)
            return false;
        address += displacement(c, 1) * scale;
    } else if (mod == 2 || no_base) {
        address += displacement(c, 4);
    }
    i->address = address;
    return true;
}

/* Whether another ModRM makes an instruction of this opcode. */
static bool is_group(const struct corral_instruction *i)
{
    for (unsigned member = 0; member < 8; member++)
        if (corral_form_of(i->encoding, i->opcode, i->prefix, 0xc0 | member << 3))
            return true;
    return false;
}

static bool decode(struct cursor *c, struct corral_instruction *i, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs)
{
    const uint8_t *start = c->at;
    struct prefixes p = {.long_mode = sregs->cs.l};

    if (!p.long_mode && !sregs->cs.db)
        return false; /* 16-bit code: KVM knows all that it needs */
    uint8_t byte = legacy_prefixes(c, i, &p, sregs);
    if (!p.long_mode && p.address_size)
        return false;                           /* 16-bit addresses */
    if (p.long_mode && (byte & 0xf0) == 0x40) { /* the last prefix, or none */
        p.rex = byte;
        byte = next(c);
    }
    if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
        if (!vector_prefix(c, i, &p))
            return false;
    } else {
        legacy_opcode(c, i, &p, byte);
    }
    i->form = corral_form_of(i->encoding, i->opcode, i->prefix, peek(c));
    if (!i->form) {
        c->cut_off |= c->at == c->end && is_group(i); /* the member is in what is missing */
        return false;
    }

    bool relative = false;
    if (!(i->form->flags & CORRAL_NO_MODRM)) {
        i->modrm = next(c);
        i->reg = corral_member(i) | (p.rex & REX_R ? 8 : 0);
        i->rm = (i->modrm & 7) | (p.rex & REX_B ? 8 : 0);
        i->is_memory = i->modrm >> 6 != 3;
        if (i->is_memory && !(effective(c, i, &p, regs, &relative) && (p.long_mode || flat(sregs))))
            return false;
    }
    if (corral_has_immediate(i))
        i->immediate = next(c);
    i->length = c->at - start;

    if (relative)
        i->address += regs->rip + i->length;
    if (p.address_size)
        i->address = (uint32_t)i->address;
    if (p.segment)
        i->address += p.segment->base;
    if (!p.long_mode)
        i->address = (uint32_t)i->address;
    bool wraps = !p.long_mode && i->is_memory && i->address > UINT32_MAX - CORRAL_LONGEST_OPERAND;
    return !wraps;
}

bool corral_decode(struct corral_instruction *i, const uint8_t *bytes, size_t size, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs)
{
    size_t most = size < CORRAL_LONGEST_INSTRUCTION ? size : CORRAL_LONGEST_INSTRUCTION;
    struct cursor c = {bytes, bytes + most, false};
    memset(i, 0, sizeof *i);
    bool known = decode(&c, i, regs, sregs);
    i->cut_off = c.cut_off;
    return known && !c.cut_off;
}
