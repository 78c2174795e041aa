/* SPDX-License-Identifier: GPL-2.0 */
/* The rest of hooks.c. */
#include <linux/errno.h>
#include <linux/linkage.h>
#include <asm/asm.h>

.section .noinstr.text, "ax"

/* SYSCALL of 32-bit code. */
SYM_CODE_START(corral_refuse_syscall32)
	ENDBR
	movl	$-ENOSYS, %eax
	sysretl
SYM_CODE_END(corral_refuse_syscall32)

.section .note.GNU-stack, "", @progbits
