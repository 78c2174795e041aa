/* Whether a vCPU is in its guest's kernel, also on a KVM that runs kernel code natively (docs/native.md).
 *
 * There KVM's CS and SS do not tell it: kernel code that returned to itself by the processor's own IRETQ has the
 * selectors of CPL 3, and KVM shows those. The mode's MSR tells. */
#ifndef CORRAL_GUEST_MODE_H
#define CORRAL_GUEST_MODE_H

#include "vcpu.h"

/* --- for Python --- */

/* The MSR's value: the address of the page that vCPU and KVM share, and flags. 0 means off. */
#define CORRAL_MSR_NATIVE 0x4b564d10
#define CORRAL_NATIVE_PAGE 0x000ffffffffff000ull
#define CORRAL_NATIVE_PAIRS (1u << 0) /* flag: programs run on the second of a pair of PGDs */
#define CORRAL_NATIVE_IF (1u << 2)    /* flag: the page's first byte is the kernel's interrupt flag */
#define CORRAL_NATIVE_USER (1u << 11) /* KVM's own: the vCPU runs a program */

/* The MSR's value where kernel code runs natively, else 0. The vCPU does not run. */
uint64_t corral_native_mode(struct corral_vcpu *v);

/* The guest's CPL, by a struct kvm_sregs of this moment. */
uint8_t corral_guest_cpl(struct corral_vcpu *v, const struct kvm_sregs *sregs);

#endif
