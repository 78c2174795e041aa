/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What guests/linux/native needs of the kernel's file of this name, which its headers' package does not have: registers
 * to and from struct pt_regs (asm/ptrace.h), whose offsets are here.
 */
#define R15	0*8
#define R14	1*8
#define R13	2*8
#define R12	3*8
#define RBP	4*8
#define RBX	5*8
#define R11	6*8
#define R10	7*8
#define R9	8*8
#define R8	9*8
#define RAX	10*8
#define RCX	11*8
#define RDX	12*8
#define RSI	13*8
#define RDI	14*8
#define ORIG_RAX 15*8
#define RIP	16*8
#define CS	17*8
#define EFLAGS	18*8
#define RSP	19*8
#define SS	20*8

/* With save_ret, a return address is on the stack, where RDI belongs; it goes below. */
.macro PUSH_AND_CLEAR_REGS save_ret=0
	.if \save_ret
	pushq	%rsi
	movq	8(%rsp), %rsi
	movq	%rdi, 8(%rsp)
	.else
	pushq	%rdi
	pushq	%rsi
	.endif
	.irp register, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
	pushq	%\register
	.endr
	.if \save_ret
	pushq	%rsi
	.endif
	.irp register, esi, edx, ecx, r8d, r9d, r10d, r11d, ebx, ebp, r12d, r13d, r14d, r15d
	xorl	%\register, %\register
	.endr
.endm

.macro POP_REGS pop_rdi=1
	.irp register, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi
	popq	%\register
	.endr
	.if \pop_rdi
	popq	%rdi
	.endif
.endm
