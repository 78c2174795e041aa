"""What two CPUIDs differ in, by the names that /proc/cpuinfo has for features."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.arch.x86_64.cpuid import Entry

EAX, EBX, ECX, EDX = 3, 4, 5, 6  # of an Entry
MOST = 12  # names, and leaves, that are told

# By leaf, index and register: names of its bits from 0 on, "-" for those without one (SDM 2A, CPUID; APM 3, E).
_NAMES = {
    (1, 0, ECX): "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca "
    "sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor",
    (1, 0, EDX): "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx "
    "fxsr sse sse2 ss ht tm ia64 pbe",
    (7, 0, EBX): "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq "
    "rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    (
        7,
        0,
        ECX,
    ): "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme "
    "avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd",
    (
        7,
        0,
        EDX,
    ): "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - - serialize - tsxldtrk - "
    "pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities "
    "core_capabilities ssbd",
    (7, 1, EAX): "- - - - avx_vnni avx512_bf16",
    (0xD, 1, EAX): "xsaveopt xsavec xgetbv1 xsaves",
    (0x80000001, 0, ECX): "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
    "skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx",
    (0x80000001, 0, EDX): "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm "
    "3dnowext 3dnow",
    (0x80000008, 0, EBX): "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp",
}


def features(entries: Iterable[Entry]) -> set[str]:
    """The names of all that are there."""
    found = set()
    for entry in entries:
        for (leaf, index, register), names in _NAMES.items():
            if entry[:2] == (leaf, index):
                found |= {name for bit, name in enumerate(names.split()) if entry[register] >> bit & 1}
    return found - {"-"}


def difference(wanted: Iterable[Entry], there: Iterable[Entry]) -> str:
    """What a host that is to be like another one has not, or has besides; where no name tells, the leaves."""
    wanted, there = list(wanted), list(there)
    lacks, besides = features(wanted) - features(there), features(there) - features(wanted)
    parts = [f"{verb} {_abridged(sorted(names))}" for verb, names in (("lacks", lacks), ("also has", besides)) if names]
    if not parts:
        leaves = sorted({entry[0] for entry in {*wanted} ^ {*there}})
        parts = [f"differs in CPUID leaf {_abridged([f'{leaf:#x}' for leaf in leaves])}"]
    return " and ".join(parts)


def _abridged(words: list[str]) -> str:
    more = f" and {len(words) - MOST} more" if len(words) > MOST else ""
    return ", ".join(words[:MOST]) + more
