"""A plan in the guest's words: its processors' APIC ids, and the nodes for its ACPI tables."""

from __future__ import annotations

from corral.arch.x86_64.acpi.topology import Topology
from corral.memory import RAM_HOLE, RAM_HOLE_END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.numa.plan import Plan


def topology(plan: Plan, apic_ids: Sequence[int]) -> Topology | None:
    """None where there is one node, which a kernel need not be told of. Raises ConfigError."""
    if not plan.shows_nodes:
        return None
    memory, at = [], 0
    for number, node in enumerate(plan.nodes):
        memory += [(start, size, number) for start, size in _physical(at, node.memory)]
        at += node.memory
    cpus = tuple((apic_id, cpu.node) for apic_id, cpu in zip(apic_ids, plan.cpus, strict=True))
    return Topology(cpus, tuple(memory), plan.distances)


def _physical(offset: int, size: int) -> list[tuple[int, int]]:
    """(guest physical address, bytes) of a part of RAM, which the PC's hole may divide."""
    end, low_end = offset + size, RAM_HOLE
    parts = []
    if offset < low_end and size:
        parts.append((offset, min(end, low_end) - offset))
    if end > low_end:
        start = max(offset, low_end)
        parts.append((start - low_end + RAM_HOLE_END, end - start))
    return parts
