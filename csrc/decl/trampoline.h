enum corral_encoding { CORRAL_LEGACY = ..., CORRAL_VEX = ..., CORRAL_EVEX = ... };

enum corral_prefix { CORRAL_NONE = ..., CORRAL_66 = ..., CORRAL_F3 = ..., CORRAL_F2 = ... };

enum corral_form_flags {
    CORRAL_NO_MODRM = ...,
    CORRAL_IMMEDIATE = ...,
    CORRAL_NATIVE = ...,
    CORRAL_STORES = ...,
    CORRAL_NO_STATE = ...,
    CORRAL_GENERAL_REG = ...,
    CORRAL_GENERAL_RM = ...,
    CORRAL_GENERAL_VVVV = ...,
    CORRAL_FULL = ...,
    CORRAL_MMX = ...,
    CORRAL_REGISTER = ...,
    CORRAL_OPMASK = ...,
};

struct corral_form {
    uint8_t encodings, first, last, prefixes, members;
    uint16_t flags;
    ...;
};

struct corral_instruction {
    const struct corral_form *form;
    uint16_t opcode;
    uint8_t length;
    _Bool is_memory;
    uint64_t address;
    ...;
};

#define CORRAL_STATE_REFUSED ...
#define CORRAL_WINDOW_SPAN ...

struct corral_cpu_fault {
    unsigned vector;
    _Bool absent;
    uint64_t offset;
};

const struct corral_form *corral_form_of(enum corral_encoding encoding, uint16_t opcode, enum corral_prefix prefix,
                                         uint8_t modrm);
_Bool corral_runs_natively(const struct corral_instruction *i);
_Bool corral_decode(struct corral_instruction *i, const uint8_t *bytes, size_t size, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs);

struct corral_trampoline;
struct corral_trampoline *corral_trampoline_create(void);
void corral_trampoline_destroy(struct corral_trampoline *t);
struct kvm_regs *corral_trampoline_regs(struct corral_trampoline *t);
uint8_t *corral_trampoline_xsave(struct corral_trampoline *t);
uint8_t *corral_trampoline_window(struct corral_trampoline *t, uint64_t address, _Bool first, _Bool second);
_Bool corral_trampoline_run(struct corral_trampoline *t, const struct corral_instruction *i, uint8_t *operand,
                            uint32_t features, struct corral_cpu_fault *fault);
