/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Native supervisor mode on a pagetable KVM: what C and assembler share.
 *
 * docs/native.md says what the mode is. In short: kernel code runs at the processor's CPL 3, and a page per CPU that
 * is shared with KVM holds the interrupt flag.
 */
#ifndef _ASM_X86_CORRAL_NATIVE_H
#define _ASM_X86_CORRAL_NATIVE_H

/* Bytes and words of the shared page. */
#define CORRAL_PAGE_IF		0	/* 1: interrupts may be delivered */
#define CORRAL_PAGE_PENDING	1	/* not 0: KVM holds one back */
#define CORRAL_PAGE_CR2		8	/* of the last page fault */

/*
 * The bit that turns __USER_DS into a selector that only the guest's GDT has: IRETQ with it is refused by the
 * processor, so KVM sees the return to user code. GDT_ENTRY_CORRAL_USER_DS is that descriptor.
 */
#define CORRAL_USER_DS_BIT	0x10
#define GDT_ENTRY_CORRAL_USER_DS 7

/* Of an IST stack: the last word of the page that RSP is in on entry is the CPU's kernel GS base. */
#define CORRAL_STACK_TOP_BYTES	16

#ifdef __ASSEMBLY__

/* To `label` where kernel code does not run at CPL 3. Changes flags, and no register. */
.macro CORRAL_IF_NATIVE register:req label:req
	pushq	\register
	movq	%cs, \register
	testq	$3, \register
	popq	\register
	jz	\label
.endm

#else

struct pt_regs;

/* memset() is a loop until alternatives are in place, and each of its instructions is interpreted. */
static inline void corral_zero(void *start, unsigned long bytes)
{
	unsigned long words = bytes / 8;

	asm volatile("rep stosq" : "+D"(start), "+c"(words) : "a"(0UL) : "memory");
	bytes %= 8;
	asm volatile("rep stosb" : "+D"(start), "+c"(bytes) : "a"(0UL) : "memory");
}

void corral_native_start(void);

bool corral_fixup_port_io(struct pt_regs *regs);

#endif
#endif
