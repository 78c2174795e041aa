// SPDX-License-Identifier: GPL-2.0
/*
 * Native supervisor mode on a pagetable KVM (docs/native.md).
 *
 * Such a KVM interprets kernel code, unless the guest writes an MSR: from then on kernel code runs on the processor, at
 * CPL 3, and traps where it is privileged. What must be known of a kernel for that is set here, by pv_ops:
 *
 *  - the interrupt flag is a byte in a page that each CPU shares with KVM;
 *  - page-table entries are open to CPL 3, and programs run on the second of a pair of PGDs, in which the kernel's half
 *    is closed;
 *  - KVM exchanges GS bases itself, as by SWAPGS, on each way between kernel and program.
 *
 * Without that MSR, on hardware and under any other hypervisor, nothing here is used.
 */
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <asm/cmdline.h>
#include <asm/cpu_entry_area.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/msr.h>
#include <asm/paravirt.h>
#include <asm/pgtable.h>
#include <asm/processor.h>
#include <asm/sections.h>
#include <asm/setup.h>
#include <asm/tlbflush.h>
#include <asm/corral_native.h>

#define MSR_NATIVE_PAGE		0x4b564d10	/* the shared page's physical address, and flags; 0: off */
#define MSR_NATIVE_SIGNATURE	0x4b564d11
#define NATIVE_SIGNATURE	0x4d5650
/* User code gets CR3 | PAGE_SIZE; the kernel gets its own back; the page's interrupt flag is the true one; it has CR2. */
#define NATIVE_FLAGS		0x17

/* Of what KVM offers a guest, what needs a hypercall from CPL 0 or an event that this mode does not have. */
#define UNUSABLE_KVM_FEATURES                                                                                  \
	(BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_UNHALT) |               \
	 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) | BIT(KVM_FEATURE_PV_SEND_IPI) |    \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_ASYNC_PF_INT))

struct corral_page {
	u8 bytes[PAGE_SIZE];
} __aligned(PAGE_SIZE);

DEFINE_PER_CPU_PAGE_ALIGNED(struct corral_page, corral_page);
/* The GS base of programs as it was last read or written, and whether none has run since. */
DEFINE_PER_CPU(unsigned long, corral_user_gs);
DEFINE_PER_CPU(bool, corral_knows_user_gs);
DEFINE_PER_CPU(unsigned long, corral_cr3); /* as it was last written; 0: not yet */

extern char corral_entry_SYSCALL_64[];
extern unsigned long tlb_single_page_flush_ceiling;
void corral_save_fl(void);
void corral_irq_disable(void);
void corral_irq_enable(void);
void corral_safe_halt(void);
void corral_make_entry(void);
void corral_read_cr2(void);

#define CALLEE_SAVE(f) ((struct paravirt_callee_save){ .func = (f) })

/* Whether this CPU's kernel code runs on the processor yet. */
static bool is_native(void)
{
	u16 selector;

	savesegment(cs, selector);
	return selector & 3;
}

/* Tells KVM where this CPU's shared page is. Interrupts are off, and so they are in the page. */
static void share_page(void)
{
	struct corral_page *page = this_cpu_ptr(&corral_page);
	u64 value = __pa(page) | NATIVE_FLAGS;

	page->bytes[CORRAL_PAGE_IF] = 0;
	native_write_msr(MSR_NATIVE_PAGE, lower_32_bits(value), upper_32_bits(value));
	/* KVM may not have told of one that it holds back since before. */
	page->bytes[CORRAL_PAGE_PENDING] = 1;
}

/* What a program's GS base is, which it may have changed itself; a kernel thread has run since the last look. */
static u64 read_user_gs(void)
{
	if (!(current->flags & PF_KTHREAD))
		this_cpu_write(corral_user_gs, native_read_msr(MSR_KERNEL_GS_BASE));
	return this_cpu_read(corral_user_gs);
}

static void write_user_gs(u64 value)
{
	native_write_msr(MSR_KERNEL_GS_BASE, lower_32_bits(value), upper_32_bits(value));
	this_cpu_write(corral_user_gs, value);
}

/* The switch from task to task has read the GS base of the one, and will write the other's: to write it takes a trap. */
static void corral_end_context_switch(struct task_struct *next)
{
	this_cpu_write(corral_knows_user_gs, true);
}

static u64 corral_read_msr(unsigned int msr)
{
	switch (msr) {
	case MSR_FS_BASE:
		return rdfsbase();
	case MSR_GS_BASE:
		return rdgsbase();
	case MSR_KERNEL_GS_BASE:
		return read_user_gs();
	default:
		return native_read_msr(msr);
	}
}

static void corral_write_msr(unsigned int msr, u32 low, u32 high)
{
	u64 value = (u64)high << 32 | low;

	switch (msr) {
	case MSR_FS_BASE:
		wrfsbase(value);
		return;
	case MSR_GS_BASE: /* per-CPU data have moved, or are there for the first time */
		if (is_native())
			wrgsbase(value);
		else
			native_write_msr(msr, low, high);
		share_page();
		return;
	case MSR_KERNEL_GS_BASE:
		if (!this_cpu_read(corral_knows_user_gs) || value != this_cpu_read(corral_user_gs))
			write_user_gs(value);
		this_cpu_write(corral_knows_user_gs, false);
		return;
	case MSR_LSTAR:
		value = (u64)corral_entry_SYSCALL_64;
		native_write_msr(msr, lower_32_bits(value), upper_32_bits(value));
		return;
	default:
		native_write_msr(msr, low, high);
	}
}

static unsigned long corral_read_cr3(void)
{
	return this_cpu_read(corral_cr3) ?: __native_read_cr3();
}

static void corral_write_cr3(unsigned long value)
{
	this_cpu_write(corral_cr3, value);
	native_write_cr3(value);
}

static void corral_flush_tlb_user(void)
{
	native_write_cr3(corral_read_cr3());
}

/* An NMI puts back the address that it has found; from a CPU that is native, which NMIs need. */
static void corral_write_cr2(unsigned long value)
{
	*(unsigned long *)&this_cpu_ptr(&corral_page)->bytes[CORRAL_PAGE_CR2] = value;
}

/* RDFSBASE and its kin work whatever CR4 says, and KVM refuses the bit. */
static void corral_write_cr4(unsigned long value)
{
	value &= ~X86_CR4_FSGSBASE;
	asm volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

/*
 * CPUID at CPL 3 need not trap, and is the real processor's then: what KVM gives the guest is told to interpreted code
 * alone. There RFLAGS.IF counts, which CLI clears although it does not touch the page's flag: an interrupt with the mode
 * off would be taken for a program's, for CS may be that of CPL 3.
 */
static void corral_cpuid(unsigned int *eax, unsigned int *ebx, unsigned int *ecx, unsigned int *edx)
{
	unsigned long flags;
	u32 leaf = *eax;

	if (is_native()) {
		local_irq_save(flags);
		asm volatile("cli" : : : "memory");
		native_write_msr(MSR_NATIVE_PAGE, 0, 0);
		native_cpuid(eax, ebx, ecx, edx);
		share_page();
		local_irq_restore(flags);
	} else {
		native_cpuid(eax, ebx, ecx, edx);
	}
	if (leaf == KVM_CPUID_FEATURES)
		*eax &= ~UNUSABLE_KVM_FEATURES;
}

/* LTR, and the last word of each IST stack, which tells the CPU's GS base. */
static void corral_load_tr_desc(void)
{
	int i, cpu = raw_smp_processor_id();
	struct tss_struct *tss = this_cpu_ptr(&cpu_tss_rw);

	for (i = IST_INDEX_DF; i <= IST_INDEX_MCE; i++) {
		unsigned long *top = (unsigned long *)tss->x86_tss.ist[i];

		top[-1] = cpu_kernelmode_gs_base(cpu);
		tss->x86_tss.ist[i] -= CORRAL_STACK_TOP_BYTES;
	}
	load_direct_gdt(cpu);
	asm volatile("ltr %w0" : : "q"(GDT_ENTRY_TSS * 8));
	load_fixmap_gdt(cpu);
	/* From 6.2 on another CPU's GS base is set before C, and not by a call that comes here. */
	if (!is_native())
		share_page();
}

/* Loading a selector changes the base in use, which is the kernel's here: the new one is the program's to be. */
static void corral_load_gs_index(unsigned int selector)
{
	unsigned long flags, kernel_gs, user_gs;

	local_irq_save(flags);
	kernel_gs = rdgsbase();
	asm volatile("1:	movl %k0, %%gs\n"
		     "		rdgsbase %1\n"
		     "		wrgsbase %2\n"
		     _ASM_EXTABLE_TYPE_REG(1b, 1b, EX_TYPE_ZERO_REG, %k0)
		     : "+r"(selector), "=&r"(user_gs) : "r"(kernel_gs) : "memory");
	write_user_gs(user_gs);
	local_irq_restore(flags);
}

/* PGDs come in pairs: programs run on the second, whose upper half is closed to them. */
static void corral_set_p4d(p4d_t *p4dp, p4d_t p4d)
{
	p4d_t *second = (p4d_t *)((unsigned long)p4dp | PAGE_SIZE);

	WRITE_ONCE(*p4dp, p4d);
	if (pgdp_maps_userspace(p4dp))
		WRITE_ONCE(*second, p4d);
	else
		WRITE_ONCE(*second, native_make_p4d(native_p4d_val(p4d) & ~_PAGE_USER));
}

/* A new PGD's second page: the kernel's half is there for entry code of KVM's, closed to CPL 3. */
static int corral_pgd_alloc(struct mm_struct *mm)
{
	pgdval_t *second = (pgdval_t *)((unsigned long)mm->pgd | PAGE_SIZE);
	int i;

	for (i = KERNEL_PGD_BOUNDARY; i < PTRS_PER_PGD; i++)
		second[i] = native_pgd_val(swapper_pg_dir[i]) & ~_PAGE_USER;
	return 0;
}

/*
 * Opens the tables that map the kernel's image, or closes them again: kernel code is interpreted here, so each loop is
 * short. What the early page-fault handler has mapped is open.
 */
static void __init set_early_tables(bool are_open)
{
	const unsigned long first = __START_KERNEL_map, flag = are_open ? _PAGE_USER : 0;
	unsigned int i;

	early_top_pgt[pgd_index(first)].pgd = (early_top_pgt[pgd_index(first)].pgd & ~_PAGE_USER) | flag;
	for (i = pud_index(first); i < PTRS_PER_PUD; i++)
		level3_kernel_pgt[i].pud = (level3_kernel_pgt[i].pud & ~_PAGE_USER) | flag;
	for (i = pmd_index((unsigned long)_text); i <= pmd_index((unsigned long)_end - 1); i++)
		level2_kernel_pgt[i].pmd = (level2_kernel_pgt[i].pmd & ~_PAGE_USER) | flag;
	native_write_cr3(__native_read_cr3());
}

/* Whether GS's base can be exchanged at CPL 3: the host's kernel decides. */
static bool __init has_gs_instructions(void)
{
	bool works = true;

	asm volatile("1:	rdgsbase %%rcx\n"
		     "		wrgsbase %%rcx\n"
		     "2:\n"
		     _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_ZERO_REG, %k0)
		     : "+r"(works) : : "rcx");
	return works;
}

static void __init set_pv_ops(void)
{
	pv_ops.cpu.cpuid = corral_cpuid;
	pv_ops.cpu.read_msr = corral_read_msr;
	pv_ops.cpu.write_msr = corral_write_msr;
	pv_ops.cpu.write_cr4 = corral_write_cr4;
	pv_ops.cpu.load_tr_desc = corral_load_tr_desc;
	pv_ops.cpu.load_gs_index = corral_load_gs_index;
	pv_ops.cpu.end_context_switch = corral_end_context_switch;

	pv_ops.irq.save_fl = CALLEE_SAVE(corral_save_fl);
	pv_ops.irq.irq_disable = CALLEE_SAVE(corral_irq_disable);
	pv_ops.irq.irq_enable = CALLEE_SAVE(corral_irq_enable);
	pv_ops.irq.safe_halt = corral_safe_halt;

	pv_ops.mmu.read_cr2 = CALLEE_SAVE(corral_read_cr2);
	pv_ops.mmu.write_cr2 = corral_write_cr2;
	pv_ops.mmu.read_cr3 = corral_read_cr3;
	pv_ops.mmu.write_cr3 = corral_write_cr3;
	pv_ops.mmu.flush_tlb_user = corral_flush_tlb_user;
	pv_ops.mmu.make_pte = CALLEE_SAVE(corral_make_entry);
	pv_ops.mmu.make_pmd = CALLEE_SAVE(corral_make_entry);
	pv_ops.mmu.make_pud = CALLEE_SAVE(corral_make_entry);
	pv_ops.mmu.make_pgd = CALLEE_SAVE(corral_make_entry);
	pv_ops.mmu.set_p4d = corral_set_p4d;
	pv_ops.mmu.pgd_alloc = corral_pgd_alloc;

	/* INVLPG takes as long as a new CR3. */
	tlb_single_page_flush_ceiling = 1;
}

static void __init set_features(void)
{
	/* The entry code's and pv_ops' alternatives; RDFSBASE and its kin. */
	setup_force_cpu_cap(X86_FEATURE_XENPV);
	setup_force_cpu_cap(X86_FEATURE_FSGSBASE);
	/*
	 * Each allocation uses CMPXCHG16B, or what stands in for it, whose CLI and POPF trap. Guests are told that there is
	 * none, since interpreted it costs more; at CPL 3 every CPU with RDGSBASE has it.
	 */
	setup_force_cpu_cap(X86_FEATURE_CX16);
	/* The kernel's pages are open to CPL 3, which these would refuse; and instructions that KVM does not complete. */
	setup_clear_cpu_cap(X86_FEATURE_SMEP);
	setup_clear_cpu_cap(X86_FEATURE_SMAP);
	setup_clear_cpu_cap(X86_FEATURE_UMIP);
	setup_clear_cpu_cap(X86_FEATURE_PKU);
	setup_clear_cpu_cap(X86_FEATURE_XSAVES);
	/* Its size in CPUID is with what only XSAVES saves. */
	setup_clear_cpu_cap(X86_FEATURE_XSAVEC);
	/* Their number is the host's. */
	setup_clear_cpu_cap(X86_FEATURE_RDTSCP);
	setup_clear_cpu_cap(X86_FEATURE_RDPID);
	/* CR3's low bits choose between a pair's PGDs. */
	setup_clear_cpu_cap(X86_FEATURE_PCID);
	setup_clear_cpu_cap(X86_FEATURE_INVPCID);
	/* Programs have a PGD of their own already. */
	strlcat(boot_command_line, " pti=off", COMMAND_LINE_SIZE);
}

/* Called once there are an early IDT and a command line, before anything that takes long. */
void __init corral_native_start(void)
{
	struct desc_struct user_ds = GDT_ENTRY_INIT(0xc0f3, 0, 0xfffff);
	u64 signature;

	if (rdmsrl_safe(MSR_NATIVE_SIGNATURE, &signature) || signature != NATIVE_SIGNATURE ||
	    cmdline_find_option_bool(boot_command_line, "nonative"))
		return;

	this_cpu_ptr(&gdt_page)->gdt[GDT_ENTRY_CORRAL_USER_DS] = user_ds;
	set_early_tables(true);
	share_page();
	if (!has_gs_instructions()) {
		native_write_msr(MSR_NATIVE_PAGE, 0, 0);
		set_early_tables(false);
		return;
	}
	set_pv_ops();
	set_features();
}
