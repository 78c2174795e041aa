// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID in native supervisor mode.
 *
 * At CPL 3 it need not trap, and is the real processor's then: what KVM gives the guest is told to interpreted code alone.
 * So the mode is off for it, which takes 20 us and more. Linux asks for some leaves dozens of times, and each CPU asks
 * again; what is the same for all CPUs is kept.
 */
#include <linux/cache.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/kvm_para.h>
#include <linux/percpu.h>
#include <asm/page.h>
#include <asm/processor.h>
#include <asm/corral_native.h>

/* Of what KVM offers a guest, what needs a hypercall from CPL 0 or an event that this mode does not have. */
#define UNUSABLE_KVM_FEATURES                                                                                  \
	(BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_UNHALT) |               \
	 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) | BIT(KVM_FEATURE_PV_SEND_IPI) |    \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) | BIT(KVM_FEATURE_ASYNC_PF_INT))

struct answer {
	u32 leaf, index;
	u32 eax, ebx, ecx, edx;
};

/* Those that the first CPU has had before there is another one: from then on they are only read. */
static struct answer answers[64] __ro_after_init;
static unsigned int known __ro_after_init;

/* What tells a CPU's number, or changes with CR4, XCR0 or XSS. */
static bool changes(u32 leaf)
{
	switch (leaf) {
	case 1:
	case 7:
	case 0xb:
	case 0xd:
	case 0x1f:
	case 0x8000001e:
	case 0x80000026:
		return true;
	}
	return false;
}

/* Where Linux looks for hypervisors, 255 times: Corral's guests have KVM's leaves at the first place, and no others. */
static bool is_of_another_hypervisor(u32 leaf)
{
	return leaf >= 0x40000100 && leaf < 0x40010000;
}

/*
 * With the mode off RFLAGS.IF counts, which CLI clears although it does not touch the page's flag: an interrupt would be
 * taken for a program's, for CS may be that of CPL 3. From one WRMSR to the other each instruction is interpreted.
 */
static void ask_with_mode_off(struct answer *answer)
{
	u32 eax = 0, edx = 0, ecx = MSR_CORRAL_PAGE, low, high;
	struct corral_page *page;
	unsigned long flags;

	local_irq_save(flags);
	page = this_cpu_ptr(&corral_page);
	low = lower_32_bits(__pa(page) | CORRAL_NATIVE_FLAGS);
	high = upper_32_bits(__pa(page));
	asm volatile("	cli\n"
		     "	wrmsr\n"
		     "	movl	%[eax], %%eax\n"
		     "	movl	%[ecx], %%ecx\n"
		     "	cpuid\n"
		     "	movl	%%eax, %[eax]\n"
		     "	movl	%%ecx, %[ecx]\n"
		     "	xchgl	%%edx, %[edx]\n"
		     "	movl	%[low], %%eax\n"
		     "	movl	%[msr], %%ecx\n"
		     "	wrmsr\n"
		     : "+a"(eax), "=&b"(answer->ebx), "+c"(ecx), "+d"(edx),
		       [eax] "+r"(answer->eax), [ecx] "+r"(answer->ecx), [edx] "+r"(high)
		     : [low] "r"(low), [msr] "i"(MSR_CORRAL_PAGE)
		     : "memory");
	answer->edx = high;
	/* KVM may not have told of one that it holds back since before. */
	page->bytes[CORRAL_PAGE_PENDING] = 1;
	local_irq_restore(flags);
}

static void ask(struct answer *answer)
{
	answer->eax = answer->leaf;
	answer->ecx = answer->index;
	if (corral_is_native())
		ask_with_mode_off(answer);
	else
		native_cpuid(&answer->eax, &answer->ebx, &answer->ecx, &answer->edx);
	if (answer->leaf == KVM_CPUID_FEATURES)
		answer->eax &= ~UNUSABLE_KVM_FEATURES;
	if (system_state == SYSTEM_BOOTING && known < ARRAY_SIZE(answers) && !changes(answer->leaf))
		answers[known++] = *answer;
}

static const struct answer *find(u32 leaf, u32 index)
{
	unsigned int i;

	for (i = 0; i < known; i++)
		if (answers[i].leaf == leaf && answers[i].index == index)
			return &answers[i];
	return NULL;
}

void corral_cpuid(unsigned int *eax, unsigned int *ebx, unsigned int *ecx, unsigned int *edx)
{
	struct answer answer = { .leaf = *eax, .index = *ecx };
	const struct answer *before = find(answer.leaf, answer.index);

	if (before)
		answer = *before;
	else if (!is_of_another_hypervisor(answer.leaf))
		ask(&answer);
	*eax = answer.eax;
	*ebx = answer.ebx;
	*ecx = answer.ecx;
	*edx = answer.edx;
}
