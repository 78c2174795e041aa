"""A plan in the guest's words: APIC ids, CPUID, ranges of memory."""

from __future__ import annotations

import pytest

from corral.arch.x86_64 import apic_ids, cpuid
from corral.arch.x86_64.cpuid import Entry
from corral.memory import RAM_HOLE_END
from corral.numa import guest
from corral.numa.placement import place
from corral.numa.plan import Plan, PlannedCpu, PlannedNode
from corral.numa.request import Request, Shape
from tests.unit.numa.invented import GIB, build

SUPPORTED: list[Entry] = [
    (0, 0, 0, 0x1F, 0, 0, 0),
    (1, 0, 0, 0, 0x00990800, 0, 0),
    (4, 0, 1, 0x1C004121, 0, 0, 0),  # L1 data
    (4, 3, 1, 0x1C03C163, 0, 0, 0),  # L3
    (4, 4, 1, 0, 0, 0, 0),
    (0xB, 0, 1, 9, 9, 9, 9),
    (0x80000008, 0, 0, 0x3030, 0, 0x7007, 0),
    (0x8000001D, 3, 1, 0x1C163, 0, 0, 0),
    (0x8000001E, 0, 0, 0, 0, 0, 0),
    (0x80000026, 0, 1, 1, 1, 1, 1),
]


def leaves(plan: Plan, vcpu: int, caches: bool = True) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    entries = cpuid.for_vcpu(SUPPORTED, apic_ids.placed(plan.cpus)[vcpu], False, caches)
    return {(function, index): (eax, ebx, ecx, edx) for function, index, _, eax, ebx, ecx, edx in entries}


@pytest.fixture
def plan() -> Plan:
    """Two sockets of two complexes of two cores of two threads."""
    return place(build(packages=2, complexes=2, cores=2, threads=2), Request(16, 4 * GIB))


def test_ids_have_a_field_for_each_level(plan: Plan) -> None:
    positions = apic_ids.placed(plan.cpus)
    assert [position.apic_id for position in positions] == list(range(16))
    widths = positions[0].widths
    assert (widths.core, widths.complex, widths.die, widths.package) == (1, 2, 3, 3)


def test_holes_where_a_level_is_no_power_of_two() -> None:
    cpus = place(build(cores=3, packages=2), Request(6, GIB)).cpus
    assert [position.apic_id for position in apic_ids.placed(cpus)] == [0, 1, 2, 4, 5, 6]


def test_ids_that_would_be_too_large_lose_levels() -> None:
    cpus = [PlannedCpu(0, package=p, die=0, complex=x, core=c) for p in (0, 1) for x in range(9) for c in range(9)]
    positions = apic_ids.placed(cpus[:80] + cpus[-3:])
    assert max(position.apic_id for position in positions) <= apic_ids.HIGHEST
    assert len({position.apic_id for position in positions}) == 83
    assert positions[0].widths.complex == positions[0].widths.die == positions[0].widths.package


@pytest.mark.parametrize("nested", [False, True])
def test_a_guest_runs_guests_only_where_it_may(plan: Plan, nested: bool) -> None:
    supported = [(1, 0, 0, 0, 0, 1 << 5, 0), (0x80000001, 0, 0, 0, 0, 1 << 2, 0), (0x8000000A, 0, 0, 1, 8, 0, 0x4B)]
    entries = cpuid.for_vcpu(supported, apic_ids.placed(plan.cpus)[0], False, nested=nested)
    seen = {function: ecx for function, _, _, _, _, ecx, _ in entries}
    assert bool(seen[1] & 1 << 5) == bool(seen[0x80000001] & 1 << 2) == (0x8000000A in seen) == nested


def test_cpuid_says_the_same_everywhere(plan: Plan) -> None:
    found = leaves(plan, 13)
    assert found[1, 0][1] == 13 << 24 | 8 << 16 | 0x0800
    assert found[1, 0][3] & cpuid.HTT
    assert found[4, 0][0] >> 14 & 0xFFF == 1, "an L1 is a core's: two threads"
    assert found[4, 3][0] >> 14 & 0xFFF == 3, "an L3 is a complex's: two cores"
    assert found[4, 0][0] >> 26 == 3, "four cores in a package"
    assert found[4, 4] == (0, 0, 0, 0)
    assert found[0xB, 0] == (1, 2, 0x100, 13)
    assert found[0xB, 1] == (3, 8, 0x201, 13)
    assert found[0xB, 2] == (0, 0, 2, 13)
    assert (0x1F, 0) not in found, "one die a package: leaf 0xB has it all"
    assert found[0x80000008, 0][2] == 3 << 12 | 7
    assert found[0x8000001D, 3][0] >> 14 & 0xFFF == 3
    assert found[0x8000001E, 0][:3] == (13, 1 << 8 | 6, 1)
    assert (0x80000026, 0) not in found


def test_caches_that_are_not_told(plan: Plan) -> None:
    assert leaves(plan, 0, caches=False)[4, 3][0] >> 14 & 0xFFF == 0


def test_dies() -> None:
    cpus = tuple(PlannedCpu(0, package=0, die=die, core=core) for die in (0, 1) for core in (0, 1))
    found = leaves(Plan("", cpus, (PlannedNode(-1, GIB),), ((10,),)), 3)
    assert [found[0x1F, level][2] for level in range(4)] == [0x100, 0x201, 0x502, 3]
    assert [found[0x1F, level][0] for level in range(4)] == [0, 1, 2, 0]
    assert found[0x8000001E, 0][2] == 1 << 8 | 1


def test_flat_is_a_package_of_cores() -> None:
    positions = apic_ids.flat(3)
    entries = cpuid.for_vcpu(SUPPORTED, positions[2], False)
    assert [entry[3:] for entry in entries if entry[0] == 0xB] == [(0, 1, 0x100, 2), (2, 3, 0x201, 2), (0, 0, 2, 2)]


@pytest.mark.parametrize("leaf", [True, False])
def test_threads_are_told_on_amd_where_the_host_does_not_tell_its_own(leaf: bool) -> None:
    """Without TOPOEXT a guest takes two threads of a core for two cores."""
    amd = [int.from_bytes(b"AuthcAMDenti"[at : at + 4], "little") for at in (0, 4, 8)]
    highest = 0x8000001E if leaf else 0x8000001A
    supported = [(0, 0, 0, 0x10, *amd), (0x80000000, 0, 0, highest, *amd), (0x80000001, 0, 0, 0, 0, 1, 0)]
    supported += [(0x8000001E, 0, 0, 7, 7, 7, 7)] if leaf else []
    cpus = tuple(PlannedCpu(0, core=cpu // 2, thread=cpu % 2) for cpu in range(4))
    entries = cpuid.for_vcpu(supported, apic_ids.placed(cpus)[3], False)
    found = {entry[0]: entry[3:] for entry in entries}
    assert found[0x80000000][0] == 0x8000001E
    assert found[0x80000001][2] == cpuid.TOPOEXT | 1
    assert found[0x8000001E][:3] == (3, 1 << 8 | 1, 0)
    assert [entry[0] for entry in entries].count(0x8000001E) == 1


def test_no_threads_leave_the_hosts_leaves_as_they_are() -> None:
    intel = [int.from_bytes(b"GenuntelineI"[at : at + 4], "little") for at in (0, 4, 8)]
    threads = apic_ids.placed(tuple(PlannedCpu(0, core=0, thread=cpu) for cpu in range(2)))[1]
    amd = [int.from_bytes(b"AuthcAMDenti"[at : at + 4], "little") for at in (0, 4, 8)]
    for vendor, position in ((intel, threads), (amd, apic_ids.flat(2)[1])):
        supported = [(0, 0, 0, 0x10, *vendor), (0x80000000, 0, 0, 0x80000008, 0, 0, 0), (0x80000001, 0, 0, 0, 0, 1, 0)]
        found = {entry[0]: entry[3:] for entry in cpuid.for_vcpu(supported, position, False)}
        assert found[0x80000000][0] == 0x80000008
        assert found[0x80000001][2] == 1
        assert 0x8000001E not in found


def test_memory_of_a_node_goes_around_the_hole() -> None:
    plan = place(build(packages=2), Request(4, 8 * GIB, policy="spread"))
    found = guest.topology(plan, [0, 1, 2, 3])
    assert found is not None
    assert found.memory == (
        (0, 3 * GIB, 0),
        (RAM_HOLE_END, GIB, 0),
        (RAM_HOLE_END + GIB, 4 * GIB, 1),
    )
    assert found.cpus == ((0, 0), (1, 0), (2, 1), (3, 1))
    assert found.distances == plan.distances


def test_one_node_is_not_told() -> None:
    assert guest.topology(place(build(), Request(2, GIB, Shape(2, 1, 1))), [0, 1]) is None
