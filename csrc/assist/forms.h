/* The opcodes that are known: how each is put together, and which may be run by the host's CPU as they are. */
#ifndef CORRAL_FORMS_H
#define CORRAL_FORMS_H

#include "instruction.h"

/* --- for Python --- */

enum corral_form_flags {
    CORRAL_NO_MODRM = 1 << 0,
    CORRAL_IMMEDIATE = 1 << 1, /* one byte of it; opcodes of 0F 3A have that all */
    /* Runs natively: reads and writes nothing but general registers, flags, x87 and vector state, and its one
     * explicit memory operand, which it either loads or stores. */
    CORRAL_NATIVE = 1 << 2,
    CORRAL_STORES = 1 << 3,      /* the memory operand is written, else it is read */
    CORRAL_NO_STATE = 1 << 4,    /* of x87 and vectors */
    CORRAL_GENERAL_REG = 1 << 5, /* ModRM.reg, ModRM.rm, VEX.vvvv name a general register */
    CORRAL_GENERAL_RM = 1 << 6,
    CORRAL_GENERAL_VVVV = 1 << 7,
    CORRAL_FULL = 1 << 8,      /* EVEX: the memory operand is a whole vector, or one element broadcast */
    CORRAL_MMX = 1 << 9,       /* without a prefix it works on MMX registers */
    CORRAL_REGISTER = 1 << 10, /* the r/m operand is a register */
    CORRAL_OPMASK = 1 << 11,   /* VEX, but of AVX-512 */
    CORRAL_ABSENT = 1 << 12    /* no opcode, or one that no guest is told of (arch/x86_64/cpuid.py): #UD */
};

struct corral_form {
    uint8_t encodings; /* of enum corral_encoding */
    uint8_t first, last;
    uint8_t prefixes; /* a bit for each enum corral_prefix that it exists with */
    uint8_t members;  /* of a group: a bit for each ModRM.reg. 0: not a group, or all of it */
    uint16_t flags;
};

/* The form of an opcode, which `modrm` follows; NULL when it is not known. */
const struct corral_form *corral_form_of(enum corral_encoding encoding, uint16_t opcode, enum corral_prefix prefix,
                                         uint8_t modrm);

/* --- for C alone --- */

static inline bool corral_has_immediate(const struct corral_instruction *i)
{
    return i->opcode >> 8 == 3 || (i->form->flags & CORRAL_IMMEDIATE);
}

/* --- for Python --- */

/* Whether the host's CPU may run it. Not with an operand in RSP, which is the host's meanwhile. */
bool corral_runs_natively(const struct corral_instruction *i);

#endif
