/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Entries and returns of native supervisor mode (docs/native.md). X86_FEATURE_XENPV is set in that mode, and the
 * kernel's own alternatives come here: the ways of a kernel that another one runs below CPL 0.
 */
#include <linux/linkage.h>
#include <linux/threads.h>
#include <asm/asm.h>
#include <asm/asm-offsets.h>
#include <asm/frame.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>
#include <asm/corral_native.h>

#include "../entry/calling.h"

#ifdef X86_top_of_stack
#define TASK_STACK_TOP	PER_CPU_VAR(pcpu_hot + X86_top_of_stack)
#else
#define TASK_STACK_TOP	PER_CPU_VAR(cpu_current_top_of_stack)
#endif

.section .noinstr.text, "ax"

/* pv_ops.irq: only RAX may change. */
SYM_FUNC_START(corral_save_fl)
	xorl	%eax, %eax
	cmpb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_IF)
	setne	%al
	shll	$X86_EFLAGS_IF_BIT, %eax
	RET
SYM_FUNC_END(corral_save_fl)

SYM_FUNC_START(corral_irq_disable)
	movb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_IF)
	RET
SYM_FUNC_END(corral_irq_disable)

/* STI traps, and KVM delivers what it held back. */
.macro DELIVER_PENDING
	movb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_PENDING)
	sti
.endm

SYM_FUNC_START(corral_irq_enable)
	movb	$1, PER_CPU_VAR(corral_page + CORRAL_PAGE_IF)
	cmpb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_PENDING)
	jne	1f
	RET
1:	DELIVER_PENDING
	RET
SYM_FUNC_END(corral_irq_enable)

/*
 * An interrupt between enabling and HLT must end the wait: corral_return_to_kernel moves a RIP in
 * [corral_safe_halt, corral_halted) to corral_halted.
 */
SYM_FUNC_START(corral_safe_halt)
	movb	$1, PER_CPU_VAR(corral_page + CORRAL_PAGE_IF)
	cmpb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_PENDING)
	jne	1f
	hlt
SYM_INNER_LABEL(corral_halted, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	RET
1:	DELIVER_PENDING
	RET
SYM_FUNC_END(corral_safe_halt)

/* pv_ops.mmu.make_*: what is present must be open to CPL 3; the second PGD keeps programs out. Only RAX may change. */
SYM_FUNC_START(corral_make_entry)
	movq	%rdi, %rax
	testb	$1, %al
	jz	1f
	orb	$4, %al
1:	RET
SYM_FUNC_END(corral_make_entry)

/* pv_ops.mmu.read_cr2: KVM writes it into the page too. A CPU that is not native yet has it where it always is. */
SYM_FUNC_START(corral_read_cr2)
	movl	%cs, %eax
	testb	$3, %al
	jz	1f
	movq	PER_CPU_VAR(corral_page + CORRAL_PAGE_CR2), %rax
	RET
1:	movq	%cr2, %rax
	RET
SYM_FUNC_END(corral_read_cr2)

/* SYSCALL: KVM has exchanged GS's base as for an entry by an exception, and the rest is as in entry_SYSCALL_64. */
SYM_CODE_START(corral_entry_SYSCALL_64)
	UNWIND_HINT_ENTRY
	ENDBR
	movq	%rsp, PER_CPU_VAR(cpu_tss_rw + TSS_sp2)
	movq	TASK_STACK_TOP, %rsp
	jmp	entry_SYSCALL_64_safe_stack
SYM_CODE_END(corral_entry_SYSCALL_64)

/* The end of a system call, on the task's stack, interrupts off: SYSRET where it does all that IRET would. */
SYM_CODE_START(corral_return_from_syscall)
	UNWIND_HINT_REGS
	movq	RIP(%rsp), %rcx
	cmpq	%rcx, RCX(%rsp)
	jne	corral_return_to_user
	shl	$(64 - 47), %rcx		/* a user address, canonical */
	shr	$(64 - 47), %rcx
	cmpq	%rcx, RIP(%rsp)
	jne	corral_return_to_user
	movq	R11(%rsp), %r11
	cmpq	%r11, EFLAGS(%rsp)
	jne	corral_return_to_user
	testq	$(X86_EFLAGS_RF | X86_EFLAGS_TF), %r11
	jnz	corral_return_to_user
	cmpq	$__USER_CS, CS(%rsp)
	jne	corral_return_to_user
	cmpq	$__USER_DS, SS(%rsp)
	jne	corral_return_to_user

	POP_REGS
	movq	RSP - ORIG_RAX(%rsp), %rsp
	UNWIND_HINT_ENTRY
	sysretq
SYM_CODE_END(corral_return_from_syscall)

/* From pt_regs to user code by IRETQ, which KVM must see: by a stack segment that only the guest's GDT has. */
SYM_CODE_START(corral_return_to_user)
	UNWIND_HINT_REGS
	POP_REGS
	addq	$8, %rsp		/* orig_ax */
	UNWIND_HINT_IRET_REGS
	cmpq	$__USER_DS, 4*8(%rsp)
	jne	corral_user_iret
	orb	$CORRAL_USER_DS_BIT, 4*8(%rsp)
SYM_INNER_LABEL(corral_user_iret, SYM_L_GLOBAL)
	ANNOTATE_NOENDBR
	iretq
SYM_CODE_END(corral_return_to_user)

/*
 * From an IRET frame to kernel code by the processor's own IRETQ, unseen by KVM: with the selectors that the
 * processor really runs with, and the interrupt flag put into the page by hand.
 */
SYM_CODE_START(corral_return_to_kernel)
	UNWIND_HINT_IRET_REGS
	testl	$X86_EFLAGS_IF, 2*8(%rsp)
	jz	2f
	pushq	%rax
	movq	1*8(%rsp), %rax
	cmpq	$corral_safe_halt, %rax
	jb	1f
	cmpq	$corral_halted, %rax
	jae	1f
	movq	$corral_halted, 1*8(%rsp)
1:	popq	%rax
	movb	$1, PER_CPU_VAR(corral_page + CORRAL_PAGE_IF)
	cmpb	$0, PER_CPU_VAR(corral_page + CORRAL_PAGE_PENDING)
	jne	4f
2:	/* Not while the frame is KVM's own: before the mode was on for this CPU, and in an IST stack's page. */
	pushq	%rax
	movl	%cs, %eax
	testb	$3, %al
	jz	3f
	movq	%rax, 2*8(%rsp)
	movl	%ss, %eax
	movq	%rax, 5*8(%rsp)
3:	popq	%rax
	iretq
4:	DELIVER_PENDING
	jmp	2b
SYM_CODE_END(corral_return_to_kernel)

/*
 * In place of xen_error_entry: called with an IRET frame and an error code on the stack, returns on the stack to go on
 * with: pt_regs. Called by an alternative, which can be no more than one call. From user code that is the task's stack,
 * where the frame is already unless the vector has a stack of its own.
 */
SYM_CODE_START(corral_error_entry)
	UNWIND_HINT_FUNC
	PUSH_AND_CLEAR_REGS save_ret=1
	ENCODE_FRAME_POINTER 8
	testb	$3, CS+8(%rsp)
	jz	2f
	leaq	8+SS+8(%rsp), %rax
	cmpq	%rax, TASK_STACK_TOP
	je	3f
	leaq	8(%rsp), %rdi
1:	call	sync_regs
	popq	%rcx
	movq	%rax, %rsp
	pushq	%rcx
	RET

2:	cmpq	$corral_user_iret, RIP+8(%rsp)
	je	4f
3:	RET

	/* IRETQ could not return to user code: as if that had faulted there. */
4:	leaq	8(%rsp), %rdi
	call	fixup_bad_iret
	movq	%rax, %rdi
	cmpq	$(__USER_DS | CORRAL_USER_DS_BIT), SS(%rdi)
	jne	1b
	andb	$~CORRAL_USER_DS_BIT, SS(%rdi)
	jmp	1b
SYM_CODE_END(corral_error_entry)
