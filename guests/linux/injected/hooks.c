// SPDX-License-Identifier: GPL-2.0
/*
 * What leads a distribution's own kernel to native supervisor mode (docs/native.md, "Distribution kernels").
 *
 * It is linked with the files of guests/linux/native for one kernel, and lies in a hole of that kernel's text once it is
 * loaded. src/corral/injection/places.py says which of the kernel's calls come here instead.
 */
#include <linux/binfmts.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/paravirt.h>
#include <asm/ptrace.h>
#include <asm/corral_native.h>

#define COM1 0x3f8

/* The kernel's own: static, or declared where only it looks. */
void copy_bootdata(char *real_mode_data);
void exc_general_protection(struct pt_regs *regs, long error_code);
extern struct linux_binfmt compat_elf_format;

void corral_start(char *real_mode_data);
void corral_kept_cpuid(u32 *eax, u32 *ebx, u32 *ecx, u32 *edx, void (*ask)(u32 *, u32 *, u32 *, u32 *));
void corral_general_protection(struct pt_regs *regs, long error_code);
extern char corral_refuse_syscall32[];

/* What corral_native.c has set. The hole in the text has no .bss. */
static void (*native_load_tr)(void) __section(".data");
static void (*native_write)(unsigned int msr, u32 low, u32 high) __section(".data");
static void (*native_mode_cpuid)(u32 *eax, u32 *ebx, u32 *ecx, u32 *edx) __section(".data");
static int (*kernel_write_safe)(unsigned int msr, u32 low, u32 high) __section(".data");

/* Where SYSENTER and 32-bit SYSCALL lead uses SWAPGS, which in this mode would leave the kernel without its GS. */
static bool is_compat_entry(unsigned int msr)
{
	return msr == MSR_IA32_SYSENTER_CS || msr == MSR_IA32_SYSENTER_ESP || msr == MSR_IA32_SYSENTER_EIP;
}

static void write_msr(unsigned int msr, u32 low, u32 high)
{
	u64 refuse = (u64)corral_refuse_syscall32;

	if (is_compat_entry(msr))
		return;
	if (msr == MSR_CSTAR)
		native_write(msr, lower_32_bits(refuse), upper_32_bits(refuse));
	else
		native_write(msr, low, high);
}

static int write_msr_safe(unsigned int msr, u32 low, u32 high)
{
	return is_compat_entry(msr) ? 0 : kernel_write_safe(msr, low, high);
}

static void cpuid_once(u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	corral_kept_cpuid(eax, ebx, ecx, edx, native_mode_cpuid);
}

/* A program of 32 bits: the processor has no code segment for it while a guest runs. */
static int refuse_elf32(struct linux_binprm *program)
{
	return -ENOEXEC;
}

/* Since 6.4 a CPU that is brought up has its GS base from the assembler code before this: it is not native yet. */
static void load_tr(void)
{
	u16 selector;

	savesegment(cs, selector);
	if (!(selector & 3))
		wrmsrl(MSR_GS_BASE, cpu_kernelmode_gs_base(raw_smp_processor_id()));
	native_load_tr();
}

/* Corral injects this where the mode is there; whoever loads it elsewhere is told so, and no half of it runs. */
static void __init refuse(void)
{
	static const char text[] = "Corral: no native supervisor mode, which this kernel was prepared for\r\n";
	struct desc_ptr none = {};
	const char *at;

	for (at = text; *at; at++)
		outb(*at, COM1);
	asm volatile("lidt %0; int3" : : "m"(none));
}

/* In place of copy_bootdata(), which makes the command line known. */
void __init corral_start(char *real_mode_data)
{
	copy_bootdata(real_mode_data);
	corral_native_start();
	if (!boot_cpu_has(X86_FEATURE_XENPV))
		refuse();
	native_load_tr = pv_ops.cpu.load_tr_desc;
	native_write = pv_ops.cpu.write_msr;
	native_mode_cpuid = pv_ops.cpu.cpuid;
	kernel_write_safe = pv_ops.cpu.write_msr_safe;
	pv_ops.cpu.cpuid = cpuid_once;
	pv_ops.cpu.load_tr_desc = load_tr;
	pv_ops.cpu.write_msr = write_msr;
	pv_ops.cpu.write_msr_safe = write_msr_safe;
	compat_elf_format.load_binary = refuse_elf32;
}

/*
 * In place of exc_general_protection() and of what comes before its call: that this is no system call. A program may
 * have done IN or OUT. Its code is in memory, for it was just executed; where it is not any more the program gets there
 * again.
 */
void corral_general_protection(struct pt_regs *regs, long error_code)
{
	bool done = false;

	regs->orig_ax = -1;
	if (user_mode(regs) && !error_code) {
		pagefault_disable();
		done = corral_fixup_port_io(regs);
		pagefault_enable();
	}
	if (!done)
		exc_general_protection(regs, error_code);
}
