/* XSAVE areas: the standard and the compacted format (SDM 1, chapter 13), as pure functions over bytes. */
#ifndef CORRAL_XSAVE_H
#define CORRAL_XSAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- for Python --- */

#define CORRAL_XSAVE_SIZE 4096 /* of struct kvm_xsave, which is in standard format */
#define CORRAL_XSAVE_LEGACY 512
#define CORRAL_XSAVE_HEADER 64

/* Bytes that an area with the components of `features` takes. 0: more than CORRAL_XSAVE_SIZE, or unknown. */
size_t corral_xsave_size(uint64_t features, bool compacted);

/* Writes the components `requested` of `state` into `area` (corral_xsave_size bytes, what was there before), in
 * standard or compacted format; `optimise`: components in their initial state are not written. Nothing where that
 * size is 0. */
void corral_xsave_put(const uint8_t *state, uint8_t *area, uint64_t requested, bool compacted, bool optimise);

/* Takes the components `requested` from `area` into `state`; those that the area does not have get their initial
 * values. `enabled`: XCR0 (or-ed with IA32_XSS for XRSTORS). False: the header or MXCSR is not acceptable (#GP),
 * or a component is not within CORRAL_XSAVE_SIZE. */
bool corral_xsave_take(uint8_t *state, const uint8_t *area, uint64_t requested, uint64_t enabled,
                       bool only_compacted);

#endif
