/* One x86-64 instruction taken apart: prefixes, opcode, ModRM and where its operand lies (SDM 2A, chapter 2). */
#ifndef CORRAL_INSTRUCTION_H
#define CORRAL_INSTRUCTION_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CORRAL_LONGEST_INSTRUCTION 15
#define CORRAL_LONGEST_OPERAND 4096 /* an XSAVE area's */

/* --- for Python --- */

enum corral_encoding { CORRAL_LEGACY = 1, CORRAL_VEX = 2, CORRAL_EVEX = 4 };

/* --- for C alone --- */
/* Opcode maps: one byte, 0F, 0F 38, 0F 3A. */
#define CORRAL_OPCODE(map, byte) ((map) << 8 | (byte))

/* --- for Python --- */

/* The prefix that is part of the opcode, in VEX's numbers. */
enum corral_prefix { CORRAL_NONE, CORRAL_66, CORRAL_F3, CORRAL_F2 };

struct corral_form;

struct corral_instruction {
    const struct corral_form *form; /* what is known of this opcode */
    enum corral_encoding encoding;
    enum corral_prefix prefix;
    uint16_t opcode; /* CORRAL_OPCODE */
    uint8_t length;  /* of all of it */
    bool operand_size, lock;
    bool cut_off; /* not decoded: there are too few bytes */
    bool rex_w;
    uint8_t rex;     /* legacy encoding: the REX byte, 0 when there is none */
    uint8_t head[4]; /* of a VEX or EVEX instruction: what comes before the opcode */
    uint8_t head_size;
    uint8_t modrm, immediate;
    uint8_t reg;      /* ModRM.reg, extended */
    uint8_t rm;       /* ModRM.rm, extended, when it is a register */
    uint8_t vvvv;     /* the third operand of VEX and EVEX */
    bool is_memory;   /* the r/m operand is at `address` */
    uint64_t address; /* linear, segment base included */
};

/* Decodes the instruction at bytes for 64-bit mode, or for 32-bit mode when !sregs->cs.l. False: i->cut_off, or it
 * is none of those in forms.c. */
bool corral_decode(struct corral_instruction *i, const uint8_t *bytes, size_t size, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs);

/* --- for C alone --- */

/* ModRM.reg without its extension: which member of a group. */
static inline unsigned corral_member(const struct corral_instruction *i)
{
    return i->modrm >> 3 & 7;
}

/* General register 0 to 15 in the encoding's order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8... */
uint64_t *corral_register(struct kvm_regs *regs, unsigned number);

#endif
