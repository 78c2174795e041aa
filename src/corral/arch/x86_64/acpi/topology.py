"""The NUMA nodes of a guest, as its ACPI tables tell them."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.startup.record import record

LOCAL_DISTANCE = 10
UNREACHABLE = 255


@record(frozen=True)
class Topology:
    """`cpus`: (APIC id, node). `memory`: (guest physical address, bytes, node), apart from each other.

    `distances[a][b]` is how far node b's memory is from node a's processors, 10 to itself and more to others, at most
    254; 255 is "cannot be reached" (ACPI 6.4, section 5.2.17). It has a row for every node; a node may have
    no processors or no memory. Raises ConfigError.
    """

    cpus: tuple[tuple[int, int], ...]
    memory: tuple[tuple[int, int, int], ...]
    distances: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        nodes = len(self.distances)
        if any(len(row) != nodes for row in self.distances):
            raise ConfigError(f"distances between {nodes} NUMA nodes need {nodes} rows of {nodes} numbers")
        for node, row in enumerate(self.distances):
            if row[node] != LOCAL_DISTANCE:
                raise ConfigError(f"NUMA node {node} is {LOCAL_DISTANCE} from itself, not {row[node]}")
            if any(not LOCAL_DISTANCE < distance <= UNREACHABLE for other, distance in enumerate(row) if other != node):
                raise ConfigError(f"NUMA node {node}: distances to others are {LOCAL_DISTANCE + 1} to {UNREACHABLE}")
        used = {node for _, node in self.cpus} | {node for _, _, node in self.memory}
        if not used <= set(range(nodes)):
            raise ConfigError(f"there are distances of {nodes} NUMA nodes, and a node {max(used)} is used")
