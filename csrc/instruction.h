/* One x86-64 instruction, as far as completing it needs: prefixes, opcode, ModRM and where its operand lies. */
#ifndef CORRAL_INSTRUCTION_H
#define CORRAL_INSTRUCTION_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CORRAL_LONGEST_INSTRUCTION 15

struct corral_instruction {
    uint16_t opcode; /* one-byte opcodes as they are, two-byte ones as 0x0fXX */
    bool rex_w, operand_size, rep, repne, lock;
    uint8_t length; /* all of it, once ModRM is decoded */
    uint8_t modrm;
    uint8_t reg;      /* ModRM.reg with REX.R */
    bool is_memory;   /* the r/m operand is at `address`, else it is register `rm` */
    uint8_t rm;       /* with REX.B */
    uint64_t address; /* linear, segment base included */
};

/* Decodes the instruction at bytes for 64-bit mode, or for 32-bit mode when !sregs->cs.l. False: it is cut off, or
 * has a form that no completion needs (a VEX or EVEX prefix, a 16-bit address). */
bool corral_decode(struct corral_instruction *i, const uint8_t *bytes, size_t size, const struct kvm_regs *regs,
                   const struct kvm_sregs *sregs);

/* General register 0 to 15 in the encoding's order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8... */
uint64_t *corral_register(struct kvm_regs *regs, unsigned number);

#endif
