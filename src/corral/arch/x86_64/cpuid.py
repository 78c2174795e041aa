"""CPUID as a guest shall see it: what KVM supports, and the few leaves that depend on the vCPU."""

from __future__ import annotations

Entry = tuple[int, int, int, int, int, int, int]  # function, index, flags, eax, ebx, ecx, edx

INDEX_IS_SIGNIFICANT = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX, the kernel's own spelling

HYPERVISOR = 1 << 31  # leaf 1 ECX
TSC_DEADLINE = 1 << 24  # leaf 1 ECX
CX16 = 1 << 13  # leaf 1 ECX
SMAP = 1 << 20  # leaf 7 EBX
ERMS = 1 << 9  # leaf 7 EBX
FSRM = 1 << 4  # leaf 7 EDX
LEVEL_SMT, LEVEL_CORE = 1 << 8, 2 << 8  # leaf 0xB ECX: level types (SDM 2A, CPUID)


def for_vcpu(supported: list[Entry], apic_id: int, cpus: int, interpreted: bool) -> list[Entry]:
    """The entries of one of `cpus` vCPUs, each a core of its own in one package.

    `interpreted`: KVM executes supervisor code itself. The guest shall then not believe that `rep movsb` is the
    fast way to copy (an iteration takes as long as an instruction), nor use CMPXCHG16B, which KVM lacks; and it
    shall use SMAP, since the CLAC that begins its page-fault handler is where SYSCALL is completed (docs/assist.md).
    """
    shift = (cpus - 1).bit_length()
    entries: list[Entry] = []
    for function, index, flags, eax, ebx, ecx, edx in supported:
        if function == 1:
            ebx = ebx & 0x0000FF00 | apic_id << 24 | min(cpus, 255) << 16
            ecx |= HYPERVISOR | TSC_DEADLINE
            if interpreted:
                ecx &= ~CX16
        elif function == 7 and index == 0 and interpreted:
            ebx = ebx & ~ERMS | SMAP
            edx &= ~FSRM
        elif function in (0xB, 0x1F):
            continue
        elif function == 0x80000008:
            ecx = shift << 12 | cpus - 1 if cpus > 1 else 0
        elif function == 0x8000001E:
            eax, ebx, ecx = apic_id, apic_id & 0xFF, 0
        entries.append((function, index, flags, eax, ebx, ecx, edx))
    entries.append((0xB, 0, INDEX_IS_SIGNIFICANT, 0, 1, LEVEL_SMT, apic_id))
    entries.append((0xB, 1, INDEX_IS_SIGNIFICANT, shift, cpus, LEVEL_CORE | 1, apic_id))
    entries.append((0xB, 2, INDEX_IS_SIGNIFICANT, 0, 0, 2, apic_id))
    return entries
