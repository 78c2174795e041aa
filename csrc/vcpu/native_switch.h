/* Native supervisor mode (docs/native.md), switched on for a vCPU that is restored: only its guest can. */
#ifndef CORRAL_NATIVE_SWITCH_H
#define CORRAL_NATIVE_SWITCH_H

#include "vcpu.h"

/* --- for Python --- */

/* WRMSR, then OUT to the port 0xf1, whose exit ends corral_native_switch. */
#define CORRAL_NATIVE_SWITCH_CODE 0xf1e6300f

/* Runs these instructions, which the vCPU's registers lead to, and lets KVM complete the last. Not on a vCPU that
 * a thread runs. Returns 0 or -errno; -EIO: another exit came first, -ETIMEDOUT: none did in 0.2 s of CPU. */
int corral_native_switch(struct corral_vcpu *v);

/* --- for C alone --- */

#endif
