"""Guests' NUMA nodes for Hypothesis, and what is found in guest memory by the way that a kernel goes."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from corral.arch.x86_64 import layout
from corral.arch.x86_64.acpi.topology import Topology

GIB = 1 << 30


@st.composite
def topologies(draw: st.DrawFn, most_cpus: int = 64, most_nodes: int = 8) -> tuple[list[int], Topology]:
    """APIC ids and the nodes that they are in; some ids are too large for an xAPIC."""
    ids = sorted(draw(st.sets(st.integers(0, 1000), min_size=1, max_size=most_cpus)))
    nodes = draw(st.integers(1, most_nodes))
    cpus = tuple((apic_id, draw(st.integers(0, nodes - 1))) for apic_id in ids)
    sizes = draw(st.lists(st.integers(1, 64), min_size=1, max_size=nodes))
    memory, start = [], 0
    for size in sizes:
        memory.append((start, size * GIB, draw(st.integers(0, nodes - 1))))
        start += size * GIB
    rows = tuple(tuple(10 if a == b else draw(st.integers(11, 255)) for b in range(nodes)) for a in range(nodes))
    return ids, Topology(cpus, tuple(memory), rows)


def found(tables: dict[int, bytes]) -> dict[str, bytes]:
    """Each table by its signature: from the RSDP to the XSDT to the rest, the DSDT from the FADT."""
    rsdp = tables[layout.ACPI_TABLES]
    (xsdt_at,) = struct.unpack_from("<Q", rsdp, 24)
    xsdt = tables[xsdt_at]
    listed = [tables[at] for (at,) in struct.iter_unpack("<Q", xsdt[36:])]
    by_signature = {table[:4].decode(): table for table in [xsdt, *listed]}
    (dsdt_at,) = struct.unpack_from("<Q", by_signature["FACP"], 140)
    by_signature["DSDT"] = tables[dsdt_at]
    assert len(by_signature) == len(tables) - 1, "a table that nothing leads to, or two of a kind"
    return by_signature
