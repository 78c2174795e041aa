/* SDM 2A to 2D, appendix A: the opcode maps. The first line that fits an opcode counts.
 *
 * To be native, an instruction must touch nothing but what CORRAL_NATIVE names: no operand that is implied and in
 * memory (MASKMOVDQU, MOVDIR64B), no vector of addresses (gather and scatter), nothing of the system (CET's WRSS,
 * key locker, AMX, RDPID). What a CPU does not have, or has only with other operands, it refuses by itself. */
#include "forms.h"

#define L CORRAL_LEGACY
#define V CORRAL_VEX
#define E CORRAL_EVEX

#define NP (1 << CORRAL_NONE)
#define P66 (1 << CORRAL_66)
#define PF3 (1 << CORRAL_F3)
#define PF2 (1 << CORRAL_F2)
#define PACKED (NP | P66)
#define SCALAR (PF3 | PF2)
#define ANY (PACKED | SCALAR)

#define ALL 0
#define MEMBER(number) (1 << (number))

#define HERE 0 /* by a function of its own: assist.c */
#define LOAD CORRAL_NATIVE
#define STORE (CORRAL_NATIVE | CORRAL_STORES)
#define INTEGER (CORRAL_NATIVE | CORRAL_NO_STATE)
#define IMM CORRAL_IMMEDIATE
#define REG CORRAL_GENERAL_REG
#define RM CORRAL_GENERAL_RM
#define VVVV CORRAL_GENERAL_VVVV
#define MMX CORRAL_MMX
#define FULL CORRAL_FULL
#define BARE CORRAL_NO_MODRM
#define OPMASK CORRAL_OPMASK
#define ABSENT (CORRAL_ABSENT | CORRAL_NO_MODRM)

static const struct corral_form one_byte[] = {
    {L, 0xc6, 0xc7, ANY, MEMBER(7), ABSENT | CORRAL_REGISTER}, /* XABORT, XBEGIN */
    {L, 0x9b, 0x9b, ANY, ALL, LOAD | BARE},                    /* FWAIT */
    {L, 0xcc, 0xcc, ANY, ALL, HERE | BARE},                    /* INT3, INT n, INTO, IRET, INT1 */
    {L, 0xcd, 0xcd, ANY, ALL, HERE | BARE | IMM},
    {L, 0xce, 0xcf, ANY, ALL, HERE | BARE},
    {L, 0xf1, 0xf1, ANY, ALL, HERE | BARE},
    /* x87 */
    {L, 0xd9, 0xd9, NP, 0xcc, STORE},
    {L, 0xdb, 0xdb, NP, 0x8e, STORE},
    {L, 0xdd, 0xdd, NP, 0xce, STORE},
    {L, 0xdf, 0xdf, NP, 0xce, STORE},
    {L, 0xd8, 0xdf, NP, ALL, LOAD},
};

static const struct corral_form map_0f[] = {
    {L, 0x04, 0x04, ANY, ALL, ABSENT},
    {L, 0x0a, 0x0a, ANY, ALL, ABSENT},
    {L, 0x0c, 0x0c, ANY, ALL, ABSENT},
    {L, 0x0e, 0x0f, ANY, ALL, ABSENT}, /* 3DNow! */
    {L, 0x24, 0x27, ANY, ALL, ABSENT},
    {L, 0x36, 0x37, ANY, ALL, ABSENT}, /* GETSEC */
    {L, 0x39, 0x39, ANY, ALL, ABSENT},
    {L, 0x3b, 0x3f, ANY, ALL, ABSENT},
    {L, 0x78, 0x79, NP, ALL, ABSENT}, /* VMREAD, VMWRITE */
    {L, 0x7a, 0x7b, ANY, ALL, ABSENT},
    {L, 0xa6, 0xa7, ANY, ALL, ABSENT},
    {L, 0x01, 0x01, ANY, ALL, HERE},        /* CLAC, STAC, XGETBV, XSETBV, RDTSCP, SERIALIZE */
    {L, 0x0b, 0x0b, ANY, ALL, HERE | BARE}, /* UD2, UD1, UD0 */
    {L, 0xb9, 0xb9, ANY, ALL, HERE},
    {L, 0xff, 0xff, ANY, ALL, HERE},
    {L | V, 0xae, 0xae, NP, MEMBER(2), LOAD}, /* LDMXCSR, STMXCSR */
    {L | V, 0xae, 0xae, NP, MEMBER(3), STORE},
    {L, 0xae, 0xae, ANY, ALL, HERE},               /* the XSAVE family, cache lines, fences */
    {L, 0xb8, 0xb8, PF3, ALL, INTEGER | REG | RM}, /* POPCNT, TZCNT, LZCNT */
    {L, 0xbc, 0xbd, PF3, ALL, INTEGER | REG | RM},
    {L, 0xc7, 0xc7, PACKED, MEMBER(6) | MEMBER(7), INTEGER | RM | CORRAL_REGISTER}, /* RDRAND, RDSEED */
    {L, 0xc7, 0xc7, ANY, ALL, HERE}, /* CMPXCHG8B and 16B, XSAVEC, XSAVES, XRSTORS */
    /* MMX, SSE, AVX, AVX-512 */
    {L | V | E, 0x10, 0x10, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x10, 0x10, SCALAR, ALL, LOAD},
    {L | V | E, 0x11, 0x11, PACKED, ALL, STORE | FULL},
    {L | V | E, 0x11, 0x11, SCALAR, ALL, STORE},
    {L | V | E, 0x12, 0x12, ANY, ALL, LOAD},
    {L | V | E, 0x13, 0x13, PACKED, ALL, STORE},
    {L | V | E, 0x14, 0x15, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x16, 0x16, ANY, ALL, LOAD},
    {L | V | E, 0x17, 0x17, PACKED, ALL, STORE},
    {L | V | E, 0x28, 0x28, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x29, 0x29, PACKED, ALL, STORE | FULL},
    {L, 0x2a, 0x2a, PACKED, ALL, LOAD},
    {L | V | E, 0x2a, 0x2a, SCALAR, ALL, LOAD | RM},
    {L | V | E, 0x2b, 0x2b, PACKED, ALL, STORE | FULL},
    {L, 0x2c, 0x2d, PACKED, ALL, LOAD},
    {L | V | E, 0x2c, 0x2d, SCALAR, ALL, LOAD | REG},
    {L | V | E, 0x2e, 0x2f, PACKED, ALL, LOAD},
    {V, 0x41, 0x4b, PACKED, ALL, LOAD | OPMASK},
    {L | V, 0x50, 0x50, PACKED, ALL, LOAD | REG},
    {L | V | E, 0x51, 0x51, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x51, 0x51, SCALAR, ALL, LOAD},
    {L | V, 0x52, 0x53, NP | PF3, ALL, LOAD},
    {L | V | E, 0x54, 0x57, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x58, 0x59, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x58, 0x5b, ANY, ALL, LOAD},
    {L | V | E, 0x5c, 0x5f, PACKED, ALL, LOAD | FULL},
    {L | V | E, 0x5c, 0x5f, SCALAR, ALL, LOAD},
    {L | V | E, 0x60, 0x6d, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0x6e, 0x6e, PACKED, ALL, LOAD | MMX | RM},
    {L | V | E, 0x6f, 0x6f, ANY, ALL, LOAD | MMX | FULL},
    {L | V | E, 0x70, 0x70, ANY, ALL, LOAD | MMX | IMM | FULL},
    {L | V | E, 0x71, 0x73, PACKED, ALL, LOAD | MMX | IMM | FULL},
    {L | V | E, 0x74, 0x76, PACKED, ALL, LOAD | MMX | FULL},
    {L | V, 0x77, 0x77, NP, ALL, LOAD | MMX | BARE}, /* EMMS, VZEROUPPER, VZEROALL */
    {E, 0x78, 0x79, SCALAR, ALL, LOAD | REG},
    {E, 0x7b, 0x7b, SCALAR, ALL, LOAD | RM},
    {E, 0x78, 0x7b, ANY, ALL, LOAD},
    {L | V, 0x7c, 0x7d, P66 | PF2, ALL, LOAD},
    {L | V | E, 0x7e, 0x7e, PACKED, ALL, STORE | MMX | RM},
    {L | V | E, 0x7e, 0x7e, PF3, ALL, LOAD},
    {L | V | E, 0x7f, 0x7f, ANY, ALL, STORE | MMX | FULL},
    {V, 0x90, 0x90, PACKED, ALL, LOAD | OPMASK},
    {V, 0x91, 0x91, PACKED, ALL, STORE | OPMASK},
    {V, 0x92, 0x92, NP | P66 | PF2, ALL, LOAD | OPMASK | RM},
    {V, 0x93, 0x93, NP | P66 | PF2, ALL, LOAD | OPMASK | REG},
    {V, 0x98, 0x99, PACKED, ALL, LOAD | OPMASK},
    {L | V | E, 0xc2, 0xc2, ANY, ALL, LOAD | IMM},
    {L | V | E, 0xc4, 0xc4, PACKED, ALL, LOAD | MMX | IMM | RM},
    {L | V | E, 0xc5, 0xc5, PACKED, ALL, LOAD | MMX | IMM | REG},
    {L | V | E, 0xc6, 0xc6, PACKED, ALL, LOAD | IMM | FULL},
    {L | V, 0xd0, 0xd0, P66 | PF2, ALL, LOAD},
    {L | V | E, 0xd1, 0xd3, PACKED, ALL, LOAD | MMX},
    {L | V | E, 0xd4, 0xd5, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0xd6, 0xd6, P66, ALL, STORE},
    {L, 0xd6, 0xd6, SCALAR, ALL, LOAD},
    {L | V, 0xd7, 0xd7, PACKED, ALL, LOAD | MMX | REG},
    {L | V | E, 0xd8, 0xe0, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0xe1, 0xe2, PACKED, ALL, LOAD | MMX},
    {L | V | E, 0xe3, 0xe5, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0xe6, 0xe6, P66 | SCALAR, ALL, LOAD},
    {L | V | E, 0xe7, 0xe7, PACKED, ALL, STORE | MMX | FULL},
    {L | V | E, 0xe8, 0xef, PACKED, ALL, LOAD | MMX | FULL},
    {L | V, 0xf0, 0xf0, PF2, ALL, LOAD},
    {L | V | E, 0xf1, 0xf3, PACKED, ALL, LOAD | MMX},
    {L | V | E, 0xf4, 0xf6, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0xf8, 0xfe, PACKED, ALL, LOAD | MMX | FULL},
};

static const struct corral_form map_0f38[] = {
    {L, 0x80, 0x82, P66, ALL, ABSENT}, /* INVEPT, INVVPID, INVPCID */
    {L, 0xf5, 0xf5, P66, ALL, ABSENT}, /* WRUSS, WRSS */
    {L, 0xf6, 0xf6, NP, ALL, ABSENT},
    {L, 0xf8, 0xf8, P66 | SCALAR, ALL, ABSENT}, /* MOVDIR64B, ENQCMD, ENQCMDS, MOVDIRI */
    {L, 0xf9, 0xf9, NP, ALL, ABSENT},
    {L, 0xf0, 0xf0, PACKED, ALL, INTEGER | REG}, /* MOVBE, CRC32 */
    {L, 0xf1, 0xf1, PACKED, ALL, INTEGER | CORRAL_STORES | REG},
    {L, 0xf0, 0xf1, PF2, ALL, INTEGER | REG | RM},
    {L, 0xf6, 0xf6, P66 | PF3, ALL, INTEGER | REG | RM}, /* ADCX, ADOX */
    {V, 0xf2, 0xf2, NP, ALL, INTEGER | REG | RM | VVVV}, /* BMI1 and BMI2 */
    {V, 0xf3, 0xf3, NP, ALL, INTEGER | RM | VVVV},
    {V, 0xf5, 0xf7, ANY, ALL, INTEGER | REG | RM | VVVV},
    /* SSSE3 to AVX-512 */
    {L | V | E, 0x00, 0x00, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0x04, 0x04, PACKED, ALL, LOAD | MMX | FULL},
    {L | V | E, 0x0b, 0x0b, PACKED, ALL, LOAD | MMX | FULL},
    {L | V, 0x01, 0x0a, PACKED, ALL, LOAD | MMX},
    {V | E, 0x0c, 0x0d, P66, ALL, LOAD | FULL},
    {V, 0x0e, 0x0f, P66, ALL, LOAD},
    {E, 0x10, 0x15, PF3, ALL, STORE},
    {E, 0x10, 0x13, P66, ALL, LOAD},
    {L | V | E, 0x10, 0x17, P66, ALL, LOAD},
    {V | E, 0x18, 0x1b, P66, ALL, LOAD},
    {L | V | E, 0x1c, 0x1f, PACKED, ALL, LOAD | MMX | FULL},
    {E, 0x20, 0x25, PF3, ALL, STORE},
    {L | V | E, 0x20, 0x25, P66, ALL, LOAD},
    {E, 0x26, 0x27, P66 | PF3, ALL, LOAD | FULL},
    {L | V | E, 0x28, 0x2b, P66, ALL, LOAD | FULL},
    {E, 0x28, 0x2a, PF3, ALL, LOAD},
    {V, 0x2e, 0x2f, P66, ALL, STORE},
    {V | E, 0x2c, 0x2d, P66, ALL, LOAD},
    {E, 0x30, 0x35, PF3, ALL, STORE},
    {E, 0x38, 0x3a, PF3, ALL, LOAD},
    {L | V | E, 0x30, 0x35, P66, ALL, LOAD},
    {L | V | E, 0x36, 0x40, P66, ALL, LOAD | FULL},
    {L | V, 0x41, 0x41, P66, ALL, LOAD},
    {E, 0x42, 0x44, P66, ALL, LOAD},
    {V | E, 0x45, 0x47, P66, ALL, LOAD | FULL},
    {E, 0x4c, 0x4f, P66, ALL, LOAD},
    {V | E, 0x50, 0x53, P66, ALL, LOAD | FULL},
    {E, 0x54, 0x55, P66, ALL, LOAD | FULL},
    {V | E, 0x58, 0x5b, P66, ALL, LOAD},
    {E, 0x62, 0x62, P66, ALL, LOAD},
    {E, 0x63, 0x63, P66, ALL, STORE},
    {E, 0x64, 0x66, P66, ALL, LOAD | FULL},
    {E, 0x70, 0x73, P66, ALL, LOAD | FULL},
    {E, 0x72, 0x72, PF3, ALL, LOAD | FULL},
    {E, 0x75, 0x77, P66, ALL, LOAD | FULL},
    {V | E, 0x78, 0x79, P66, ALL, LOAD},
    {E, 0x7a, 0x7c, P66, ALL, LOAD | RM},
    {E, 0x7d, 0x7f, P66, ALL, LOAD | FULL},
    {E, 0x83, 0x83, P66, ALL, LOAD | FULL},
    {E, 0x88, 0x89, P66, ALL, LOAD},
    {E, 0x8a, 0x8b, P66, ALL, STORE},
    {V, 0x8c, 0x8c, P66, ALL, LOAD},
    {V, 0x8e, 0x8e, P66, ALL, STORE},
    {E, 0x8d, 0x8f, P66, ALL, LOAD | FULL},
    {V | E, 0x96, 0x9f, P66, ALL, LOAD},
    {V | E, 0xa6, 0xaf, P66, ALL, LOAD},
    {V | E, 0xb4, 0xb5, P66, ALL, LOAD | FULL},
    {V | E, 0xb6, 0xbf, P66, ALL, LOAD},
    {E, 0xc4, 0xc4, P66, ALL, LOAD | FULL},
    {L, 0xc8, 0xcd, NP, ALL, LOAD}, /* SHA */
    {L | V | E, 0xcf, 0xcf, P66, ALL, LOAD | FULL},
    {L | V, 0xdb, 0xdb, P66, ALL, LOAD},
    {L | V | E, 0xdc, 0xdf, P66, ALL, LOAD | FULL}, /* AES */
};

static const struct corral_form map_0f3a[] = {
    {V, 0xf0, 0xf0, PF2, ALL, INTEGER | REG | RM}, /* RORX */
    {V | E, 0x00, 0x01, P66, ALL, LOAD | FULL},
    {V, 0x02, 0x06, P66, ALL, LOAD},
    {E, 0x03, 0x05, P66, ALL, LOAD | FULL},
    {L | V, 0x08, 0x0f, PACKED, ALL, LOAD | MMX},
    {E, 0x08, 0x0b, P66, ALL, LOAD},
    {E, 0x0f, 0x0f, P66, ALL, LOAD | FULL},
    {L | V | E, 0x14, 0x17, P66, ALL, STORE | RM},
    {V | E, 0x19, 0x19, P66, ALL, STORE},
    {E, 0x1b, 0x1b, P66, ALL, STORE},
    {V | E, 0x1d, 0x1d, P66, ALL, STORE},
    {V | E, 0x18, 0x1a, P66, ALL, LOAD},
    {E, 0x1e, 0x1f, P66, ALL, LOAD | FULL},
    {L | V | E, 0x20, 0x20, P66, ALL, LOAD | RM},
    {L | V | E, 0x21, 0x21, P66, ALL, LOAD},
    {L | V | E, 0x22, 0x22, P66, ALL, LOAD | RM},
    {E, 0x23, 0x25, P66, ALL, LOAD | FULL},
    {E, 0x26, 0x27, P66, ALL, LOAD},
    {V, 0x30, 0x33, P66, ALL, LOAD | OPMASK},
    {V | E, 0x39, 0x39, P66, ALL, STORE},
    {E, 0x3b, 0x3b, P66, ALL, STORE},
    {V | E, 0x38, 0x3a, P66, ALL, LOAD},
    {E, 0x3e, 0x3f, P66, ALL, LOAD | FULL},
    {L | V, 0x40, 0x42, P66, ALL, LOAD},
    {E, 0x42, 0x43, P66, ALL, LOAD | FULL},
    {L | V | E, 0x44, 0x44, P66, ALL, LOAD | FULL}, /* PCLMULQDQ */
    {V, 0x46, 0x46, P66, ALL, LOAD},
    {V, 0x4a, 0x4c, P66, ALL, LOAD},
    {E, 0x50, 0x57, P66, ALL, LOAD},
    {L | V, 0x60, 0x63, P66, ALL, LOAD},
    {E, 0x66, 0x67, P66, ALL, LOAD},
    {E, 0x70, 0x73, P66, ALL, LOAD | FULL},
    {L, 0xcc, 0xcc, NP, ALL, LOAD}, /* SHA1RNDS4 */
    {L | V | E, 0xce, 0xcf, P66, ALL, LOAD | FULL},
    {L | V, 0xdf, 0xdf, P66, ALL, LOAD}, /* AESKEYGENASSIST */
};

static const struct {
    const struct corral_form *forms;
    unsigned count;
} maps[] = {
    {one_byte, sizeof one_byte / sizeof *one_byte},
    {map_0f, sizeof map_0f / sizeof *map_0f},
    {map_0f38, sizeof map_0f38 / sizeof *map_0f38},
    {map_0f3a, sizeof map_0f3a / sizeof *map_0f3a},
};

const struct corral_form *corral_form_of(enum corral_encoding encoding, uint16_t opcode, enum corral_prefix prefix,
                                         uint8_t modrm)
{
    unsigned map = opcode >> 8, byte = opcode & 0xff;
    if (map >= sizeof maps / sizeof *maps)
        return NULL;
    for (unsigned i = 0; i < maps[map].count; i++) {
        const struct corral_form *f = &maps[map].forms[i];
        if (byte < f->first || byte > f->last || !(f->encodings & encoding) || !(f->prefixes >> prefix & 1))
            continue;
        if (f->members && !(f->members >> (modrm >> 3 & 7) & 1))
            continue;
        if ((f->flags & CORRAL_REGISTER) && modrm >> 6 != 3)
            continue;
        return f;
    }
    return NULL;
}

bool corral_runs_natively(const struct corral_instruction *i)
{
    const unsigned rsp = 4;
    unsigned flags = i->form->flags;
    if (!(flags & CORRAL_NATIVE))
        return false;
    return !(((flags & CORRAL_GENERAL_REG) && i->reg == rsp) ||
             ((flags & CORRAL_GENERAL_RM) && !i->is_memory && i->rm == rsp) ||
             ((flags & CORRAL_GENERAL_VVVV) && i->vvvv == rsp));
}
