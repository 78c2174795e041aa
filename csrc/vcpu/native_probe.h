/* A guest that tests whether this KVM runs a guest's kernel natively, once it is asked to (docs/hosts.md). */
#ifndef CORRAL_NATIVE_PROBE_H
#define CORRAL_NATIVE_PROBE_H

/* --- for Python --- */

/* Its checks, in their order. It writes a check's number to its memory before it begins with it. */
#define CORRAL_PROBE_PASSED 0 /* at the end: all of them */
#define CORRAL_PROBE_SIGNATURE 1
#define CORRAL_PROBE_SWITCH 2
#define CORRAL_PROBE_RATE 3
#define CORRAL_PROBE_GS_BASE 4
#define CORRAL_PROBE_KERNEL_FAULT 5
#define CORRAL_PROBE_KERNEL_IRETQ 6
#define CORRAL_PROBE_HELD 7
#define CORRAL_PROBE_DELIVERED 8
#define CORRAL_PROBE_TAKEN 9
#define CORRAL_PROBE_HALT 10
#define CORRAL_PROBE_IRETQ 11
#define CORRAL_PROBE_READ 12
#define CORRAL_PROBE_SYSRETQ 13
#define CORRAL_PROBE_WRITE 14
#define CORRAL_PROBE_FETCH 15
#define CORRAL_PROBE_PRIVILEGED 16
#define CORRAL_PROBE_FORGED_IRETQ 17
#define CORRAL_PROBE_USER_PAGE 18
#define CORRAL_PROBE_ADDRESS_SPACE 19
#define CORRAL_PROBE_IRETQ_PENDING 20
#define CORRAL_PROBE_SYSRETQ_PENDING 21
#define CORRAL_PROBE_GS_EXCHANGE 22
#define CORRAL_PROBE_OFF 23

/* It begins in 64-bit mode, interrupts off, with this RIP and CR3; guest physical 0 is at KERNEL. Its local APIC
 * is in x2APIC mode. It ends with an OUT to the port. */
#define CORRAL_PROBE_KERNEL 0xffffffff80000000
#define CORRAL_PROBE_RIP (CORRAL_PROBE_KERNEL + 0xd000)
#define CORRAL_PROBE_CR3 0x0000
#define CORRAL_PROBE_PORT 0xf4

/* Guest physical addresses of 64-bit words: the check's number, what it saw, and what each check must see. */
#define CORRAL_PROBE_CHECK 0xb000
#define CORRAL_PROBE_SEEN 0xb008
#define CORRAL_PROBE_EXPECTED 0xb100

#define CORRAL_PROBE_SIZE 0xe000

/* --- for C alone --- */
#ifndef __ASSEMBLER__
#include <stdint.h>

/* --- for Python --- */

/* Its memory at the start, from guest physical 0 on. */
extern const uint8_t corral_native_probe[CORRAL_PROBE_SIZE];

/* --- for C alone --- */
#endif
#endif
