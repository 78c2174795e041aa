"""CPUID as a guest shall see it: what KVM supports, and the leaves that depend on the vCPU and its place.

Leaves: SDM 2A, CPUID, for Intel's; APM 3, appendix E, for AMD's.
"""

from __future__ import annotations

from corral.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.arch.x86_64.apic_ids import Position

Entry = tuple[int, int, int, int, int, int, int]  # function, index, flags, eax, ebx, ecx, edx

INDEX_IS_SIGNIFICANT = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX, the kernel's own spelling


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


HYPERVISOR = 1 << 31  # leaf 1 ECX
TSC_DEADLINE = 1 << 24  # leaf 1 ECX
CX16 = 1 << 13  # leaf 1 ECX
VMX = 1 << 5  # leaf 1 ECX
SVM = 1 << 2  # leaf 0x80000001 ECX
SVM_FEATURES = 0x8000000A
TOPOEXT = 1 << 22  # leaf 0x80000001 ECX: leaves 0x8000001D and 0x8000001E count
# What neither a KVM that interprets nor Corral executes for a kernel (absent in forms.c), by leaf and index:
# masks of EAX, EBX, ECX, EDX.
NOT_INTERPRETED = {
    (1, 0): (0, 0, _bits(3, 6), 0),  # MONITOR, SMX
    (7, 0): (
        0,
        _bits(2, 10, 11),  # SGX, INVPCID, RTM
        _bits(3, 5, 7, 23, 27, 28, 29, 31),  # PKU, WAITPKG, CET_SS, key locker, MOVDIRI, MOVDIR64B, ENQCMD, PKS
        _bits(5, 16, 18, 20, 22, 24, 25),  # UINTR, TSXLDTRK, PCONFIG, CET_IBT, AMX
    ),
    (0x80000001, 0): (
        0,
        0,
        _bits(11, 12, 15, 16, 21, 29),
        _bits(30, 31),
    ),  # XOP, SKINIT, LWP, FMA4, TBM, MWAITX, 3DNow!
    (0x80000008, 0): (0, _bits(0, 3, 4, 8), 0, 0),  # CLZERO, INVLPGB, RDPRU, MCOMMIT
}
HTT = 1 << 28  # leaf 1 EDX: there are more processors in a package
SMAP = 1 << 20  # leaf 7 EBX
ERMS = 1 << 9  # leaf 7 EBX
FSRM = 1 << 4  # leaf 7 EDX
LEVEL_SMT, LEVEL_CORE, LEVEL_DIE = 1 << 8, 2 << 8, 5 << 8  # leaves 0xB and 0x1F ECX: types of levels

INTEL_CACHES, AMD_CACHES = 4, 0x8000001D
AMD_CORE = 0x8000001E
AMD = (b"AuthenticAMD", b"HygonGenuine")  # leaf 0 EBX, EDX, ECX
EXTENDED_TOPOLOGY, EXTENDED_TOPOLOGY_2, AMD_TOPOLOGY = 0xB, 0x1F, 0x80000026
LAST_CACHE = 3  # level; those below are a core's own


def for_vcpu(
    supported: list[Entry], position: Position, interpreted: bool, caches: bool = True, nested: bool = False
) -> list[Entry]:
    """The entries of the vCPU at this position.

    `interpreted`: KVM executes supervisor code itself. The guest shall then not believe that `rep movsb` is the
    fast way to copy (an iteration takes as long as an instruction), nor use CMPXCHG16B or what else KVM lacks; and it
    shall use SMAP, since the CLAC that begins its page-fault handler is where SYSCALL is completed (docs/assist.md).
    `caches`: the guest is told which processors share them; else each has its own. `nested`: it sees VMX or SVM,
    where KVM has that for guests; what KVM does for them is the largest part of it that a guest can reach.
    """
    apic_id, widths = position.apic_id, position.widths
    # A guest on AMD finds threads by these leaves alone. They only tell, so it does not take a host that has them.
    adds_core = position.threads > 1 and _is_amd(supported)
    entries: list[Entry] = []
    for function, index, flags, eax, ebx, ecx, edx in supported:
        if interpreted and (function, index) in NOT_INTERPRETED:
            absent = NOT_INTERPRETED[function, index]
            eax, ebx, ecx, edx = eax & ~absent[0], ebx & ~absent[1], ecx & ~absent[2], edx & ~absent[3]
        if function == 1:
            ebx = ebx & 0x0000FF00 | apic_id << 24 | min(1 << widths.package, 255) << 16
            ecx |= HYPERVISOR | TSC_DEADLINE
            edx = edx | HTT if position.processors > 1 else edx & ~HTT
            if interpreted:
                ecx &= ~CX16
            if not nested:
                ecx &= ~VMX
        elif function == 7 and index == 0 and interpreted:
            ebx = ebx & ~ERMS | SMAP
            edx &= ~FSRM
        elif function in (INTEL_CACHES, AMD_CACHES) and eax & 0x1F:  # bits 4:0 are its type, 0: there is none
            level = eax >> 5 & 7
            shared = (widths.complex if level >= LAST_CACHE else widths.core) if caches else 0
            eax = eax & 0x3FFF | (1 << shared) - 1 << 14
            if function == INTEL_CACHES:
                eax |= min((1 << widths.package - widths.core) - 1, 63) << 26
        elif function in (EXTENDED_TOPOLOGY, EXTENDED_TOPOLOGY_2, AMD_TOPOLOGY):
            continue
        elif function == 0x80000000 and adds_core:
            eax = max(eax, AMD_CORE)
        elif function == 0x80000001:
            if not nested:
                ecx &= ~SVM
            if adds_core:
                ecx |= TOPOEXT
        elif function == SVM_FEATURES and not nested:
            continue
        elif function == 0x80000008:
            ecx = widths.package << 12 | position.processors - 1 if position.processors > 1 else 0
        elif function == AMD_CORE:
            eax, ebx, ecx = _core(position)
            adds_core = False
        entries.append((function, index, flags, eax, ebx, ecx, edx))
    if adds_core:
        entries.append((AMD_CORE, 0, 0, *_core(position), 0))
    highest = next((eax for function, _, _, eax, *_ in supported if function == 0), 0)
    entries += _extended_topology(EXTENDED_TOPOLOGY, position, dies=False)
    if position.dies > 1 and highest >= EXTENDED_TOPOLOGY_2:
        entries += _extended_topology(EXTENDED_TOPOLOGY_2, position, dies=True)
    return entries


def _is_amd(supported: list[Entry]) -> bool:
    leaf = next((entry for entry in supported if entry[0] == 0), None)
    return leaf is not None and b"".join(leaf[at].to_bytes(4, "little") for at in (4, 6, 5)) in AMD


def _core(position: Position) -> tuple[int, int, int]:
    """Leaf 0x8000001E: EAX, EBX and ECX."""
    apic_id, widths = position.apic_id, position.widths
    package = apic_id >> widths.package
    die = apic_id >> widths.die & (1 << widths.package - widths.die) - 1
    ebx = position.threads - 1 << 8 | apic_id >> widths.core & 0xFF
    return apic_id, ebx, position.dies - 1 << 8 | (package * position.dies + die) & 0xFF


def _extended_topology(function: int, position: Position, dies: bool) -> list[Entry]:
    """A level an index, the lowest first; the shift leads to the next one's number."""
    widths, processors = position.widths, position.processors
    levels = [(widths.core, position.threads, LEVEL_SMT)]
    if dies:
        levels += [(widths.die, -(-processors // position.dies), LEVEL_CORE), (widths.package, processors, LEVEL_DIE)]
    else:
        levels += [(widths.package, processors, LEVEL_CORE)]
    levels += [(0, 0, 0)]
    return [
        (function, index, INDEX_IS_SIGNIFICANT, shift, count, kind | index, position.apic_id)
        for index, (shift, count, kind) in enumerate(levels)
    ]


def model() -> str:
    """The host's CPU, as people tell them apart: "AuthenticAMD family 25 model 17 stepping 1"."""
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(0, 0, registers)
    vendor = b"".join(int(registers[i]).to_bytes(4, "little") for i in (1, 3, 2)).decode("ascii", "replace")
    lib.corral_host_cpuid(1, 0, registers)
    eax = int(registers[0])
    family, number = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family == 15:
        family += eax >> 20 & 0xFF
    if family >= 6:
        number += (eax >> 16 & 0xF) << 4
    return f"{vendor} family {family} model {number} stepping {eax & 0xF}"
