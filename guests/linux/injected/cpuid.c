// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID's answers, kept (docs/native.md, "Where the exits go").
 *
 * Each time that Linux asks takes 26 us in native supervisor mode. It asks for some leaves dozens of times, and each CPU
 * asks again.
 */
#include <linux/cache.h>
#include <linux/kernel.h>
#include <linux/types.h>

struct answer {
	u32 leaf, index;
	u32 eax, ebx, ecx, edx;
};

/*
 * Those that the first CPU has had before there is another one: from then on they are only read. The hole in the text has
 * no .bss.
 */
static struct answer answers[64] __section(".data");
static unsigned int known __section(".data");

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

static const struct answer *find(u32 leaf, u32 index)
{
	unsigned int i;

	for (i = 0; i < known; i++)
		if (answers[i].leaf == leaf && answers[i].index == index)
			return &answers[i];
	return NULL;
}

/* `ask`: how else to find out. */
void corral_kept_cpuid(u32 *eax, u32 *ebx, u32 *ecx, u32 *edx, void (*ask)(u32 *, u32 *, u32 *, u32 *))
{
	struct answer answer = { .leaf = *eax, .index = *ecx };
	const struct answer *before = find(answer.leaf, answer.index);

	if (before) {
		answer = *before;
	} else if (!is_of_another_hypervisor(answer.leaf)) {
		answer.eax = answer.leaf;
		answer.ecx = answer.index;
		ask(&answer.eax, &answer.ebx, &answer.ecx, &answer.edx);
		if (system_state == SYSTEM_BOOTING && known < ARRAY_SIZE(answers) && !changes(answer.leaf))
			answers[known++] = answer;
	}
	*eax = answer.eax;
	*ebx = answer.ebx;
	*ecx = answer.ecx;
	*edx = answer.edx;
}
