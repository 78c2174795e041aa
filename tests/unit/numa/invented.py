"""Hosts that nobody has built, for the planner."""

from __future__ import annotations

from hypothesis import strategies as st

from corral.numa.host import Cache, Cpu, HostTopology, HugePages, Node

GIB = 1 << 30


def build(
    packages: int = 1,
    nodes_each: int = 1,
    complexes: int = 1,
    cores: int = 2,
    threads: int = 1,
    memory: int = 8 * GIB,
    offline: frozenset[int] = frozenset(),
    forbidden: frozenset[int] = frozenset(),
    without_memory: frozenset[int] = frozenset(),
    memory_only: int = 0,
    node_step: int = 1,
    hugepages: int = 0,
    hugepages_in_use: int = 0,
    free: int | None = None,
    thp: bool = True,
) -> HostTopology:
    """`nodes_each` of a package, `complexes` (which share an L3) of a node, `cores` of a complex, `threads` of a core;
    siblings are numbered apart, as Linux does it. Nodes are 0, `node_step`, ...; `memory_only` more have no CPUs."""
    total_cores = packages * nodes_each * complexes * cores
    cpus = []
    for thread in range(threads):
        for core in range(total_cores):
            number = thread * total_cores + core
            if number in offline:
                continue

            def online(cores_of_it: range) -> tuple[int, ...]:
                all_of_them = (t * total_cores + c for t in range(threads) for c in cores_of_it)
                return tuple(sorted(cpu for cpu in all_of_them if cpu not in offline))

            siblings = online(range(core, core + 1))
            first = core - core % cores
            l3 = online(range(first, first + cores))
            node = core // (complexes * cores)
            caches = (
                Cache(1, "Data", 32 << 10, siblings),
                Cache(1, "Instruction", 32 << 10, siblings),
                Cache(2, "Unified", 1 << 20, siblings),
                Cache(3, "Unified", 32 << 20, l3),
            )
            cpus.append(Cpu(number, node * node_step, node // nodes_each, 0, siblings[0], caches))
    count = packages * nodes_each
    numbers = [node * node_step for node in range(count + memory_only)]
    pages = (HugePages(2 << 20, hugepages, hugepages + hugepages_in_use),)
    nodes = [
        Node(number, 0, 0, pages)
        if index in without_memory
        else Node(number, memory, memory if free is None else free, pages)
        for index, number in enumerate(numbers)
    ]
    far = {
        (a, b): 10 if a == b else 11 if i // nodes_each == j // nodes_each else 20 + abs(i - j)
        for i, a in enumerate(numbers)
        for j, b in enumerate(numbers)
    }
    cpus.sort(key=lambda cpu: cpu.id)
    allowed = frozenset(cpu.id for cpu in cpus) - forbidden
    return HostTopology(tuple(cpus), tuple(nodes), far, allowed, frozenset(numbers), thp)


@st.composite
def hosts(draw: st.DrawFn) -> HostTopology:
    packages, nodes_each = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    complexes, cores, threads = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    count, total = packages * nodes_each, packages * nodes_each * complexes * cores * threads
    offline = draw(st.frozensets(st.integers(0, total - 1), max_size=total - 1))
    forbidden = draw(st.frozensets(st.integers(0, total - 1), max_size=total))
    if len(offline | forbidden) >= total:
        forbidden = frozenset()
    return build(
        packages,
        nodes_each,
        complexes,
        cores,
        threads,
        memory=draw(st.integers(1, 64)) * GIB,
        offline=offline,
        forbidden=forbidden,
        without_memory=draw(st.frozensets(st.integers(1, count), max_size=count - 1)) if count > 1 else frozenset(),
        memory_only=draw(st.integers(0, 2)),
        node_step=draw(st.integers(1, 3)),
    )
