/* Runs one instruction on the host's CPU: with a guest's registers, on an operand in a window, and back. */
#ifndef CORRAL_TRAMPOLINE_H
#define CORRAL_TRAMPOLINE_H

#include "forms.h"

/* --- for Python --- */

#define CORRAL_WINDOW_SPAN 128 /* no operand is longer; the longest is FNSAVE's, with 108 bytes */

struct corral_trampoline;

/* Not a vector: the CPU took no such XSAVE state. */
#define CORRAL_STATE_REFUSED 256

/* What the host's CPU raised instead of finishing. */
struct corral_cpu_fault {
    unsigned vector;
    bool absent; /* a page fault, in a page that is not there, this far from the operand's begin */
    uint64_t offset;
};

/* NULL, with errno: no memory, or the system forbids executable mappings. */
struct corral_trampoline *corral_trampoline_create(void);
void corral_trampoline_destroy(struct corral_trampoline *t);

/* State that the instruction works on, in and out: general registers without RSP, arithmetic flags; and, in
 * standard format, x87 and vector state, CORRAL_XSAVE_SIZE bytes. */
struct kvm_regs *corral_trampoline_regs(struct corral_trampoline *t);
uint8_t *corral_trampoline_xsave(struct corral_trampoline *t);

/* Where an operand at `address` lies: at the same offset in its page. Its CORRAL_WINDOW_SPAN bytes are in two
 * pages at most, which are there or not: the CPU is the one to know which of them it needs. */
uint8_t *corral_trampoline_window(struct corral_trampoline *t, uint64_t address, bool first, bool second);

/* Runs the instruction, for which corral_runs_natively must hold; its memory operand is at `operand`, in the
 * window. `features`: the components of XSAVE state that are loaded and saved, x87 and SSE always; 0: none. False:
 * the CPU raised `fault`, and the state is what it was then. */
bool corral_trampoline_run(struct corral_trampoline *t, const struct corral_instruction *i, uint8_t *operand,
                           uint32_t features, struct corral_cpu_fault *fault);

#endif
