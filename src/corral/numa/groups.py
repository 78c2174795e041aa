"""Which nodes of the host a guest gets, with how many of its vCPUs and how much of its memory on each."""

from __future__ import annotations

import itertools
import math

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from corral.numa.host import Cpu, HostTopology
    from corral.numa.request import Request

SMALLEST = 4 << 20  # bytes: Linux drops a node with less (arch/x86/include/asm/numa.h: NODE_MIN_SIZE)
GRANULE = 2 << 20  # what memory is split in, so that transparent huge pages stay whole
MOST_SUBSETS = 4096  # of nodes that are compared before it is done less thoroughly


@record(frozen=True)
class Group:
    """A node of the guest: on `host` (-1: anywhere) with these vCPUs and `memory` in bytes."""

    host: int
    vcpus: tuple[int, ...]
    memory: int


def groups(host: HostTopology, request: Request, load: Mapping[int, int]) -> list[Group]:
    """The guest's nodes in order. `load`: how many other machines have pinned a vCPU to a CPU."""
    everything = tuple(range(request.cpus))
    if request.map:
        return _mapped(request)
    if request.policy == "none":
        return [Group(-1, everything, request.memory)]
    if request.pin_map:
        return _by_pins(host, request)
    candidates = sorted({cpu.node for cpu in usable(host, request) if cpu.node >= 0})
    if not candidates:
        return [Group(-1, everything, request.memory)]
    chosen = _chosen(host, request, load, candidates)
    counts = _distribute(request, [_capacity(host, request, load, node, None) // chosen.count(node) for node in chosen])
    ends = list(itertools.accumulate(counts))
    ranges = [everything[end - count : end] for count, end in zip(counts, ends, strict=True)]
    return _with_memory(host, request, [(node, part) for node, part in zip(chosen, ranges, strict=True) if part])


def usable(host: HostTopology, request: Request) -> list[Cpu]:
    return [cpu for cpu in host.usable() if not request.pin_cpus or cpu.id in request.pin_cpus]


def free_memory(host: HostTopology, request: Request, node: int) -> int:
    """Bytes that a guest could have of a node now; of huge pages, when it is to have such."""
    for found in host.nodes:
        if found.id == node and node in host.allowed_nodes:
            return found.pool(request.page).free * request.page if request.page else found.free
    return 0


def _mapped(request: Request) -> list[Group]:
    left = request.memory - sum(node.memory or 0 for node in request.map)
    rest = [node for node in request.map if node.memory is None]
    weights = [len(node.vcpus) for node in rest] if any(node.vcpus for node in rest) else [1] * len(rest)
    shares = iter(_split(left, weights, request.page))
    return [Group(node.host, node.vcpus, next(shares) if node.memory is None else node.memory) for node in request.map]


def _by_pins(host: HostTopology, request: Request) -> list[Group]:
    """By the nodes of the CPUs that vCPUs are pinned to; one flat node when a vCPU is to roam."""
    node_of = {cpu.id: cpu.node for cpu in host.cpus}
    pins = dict(request.pin_map)
    by_node: dict[int, list[int]] = {}
    for vcpu in range(request.cpus):
        nodes = {node_of[cpu] for cpu in pins.get(vcpu, ())}
        if len(nodes) != 1:
            return [Group(-1, tuple(range(request.cpus)), request.memory)]
        by_node.setdefault(nodes.pop(), []).append(vcpu)
    return _with_memory(host, request, [(node, tuple(by_node[node])) for node in sorted(by_node)])


def _chosen(host: HostTopology, request: Request, load: Mapping[int, int], candidates: Sequence[int]) -> list[int]:
    """Nodes of the host, as many as the guest shall have nodes with vCPUs."""
    if request.nodes > len(candidates):  # a guest with more nodes than there are: in turns
        return sorted(itertools.islice(itertools.cycle(candidates), request.nodes))
    if request.policy == "spread":
        sizes: Iterable[int] = [min(len(candidates), request.cpus // _unit(request, len(candidates)))]
    else:
        sizes = [request.nodes] if request.nodes else range(1, min(len(candidates), request.cpus) + 1)
    levels = sorted({load.get(cpu.id, 0) for cpu in usable(host, request)})
    for level, mind_memory in itertools.product(levels, (True, False)):
        room = {node: _capacity(host, request, load, node, level) for node in candidates}
        for size in sizes:
            fitting = [
                (_cost(host, load, nodes), nodes)
                for nodes in _subsets(host, candidates, size)
                if sum(room[node] for node in nodes) >= request.cpus
                and all(room[node] for node in nodes)
                and (not mind_memory or _memory_of(host, request, nodes) >= request.memory)
            ]
            if fitting:
                return list(min(fitting)[1])
    return list(candidates)[: max(sizes)]  # more vCPUs than CPUs


def _capacity(host: HostTopology, request: Request, load: Mapping[int, int], node: int, level: int | None) -> int:
    """How many CPUs of a node are pinned to by at most `level` other machines; None: whatever it is."""
    return sum(cpu.node == node and (level is None or load.get(cpu.id, 0) <= level) for cpu in usable(host, request))


def _subsets(host: HostTopology, nodes: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    if math.comb(len(nodes), size) <= MOST_SUBSETS:
        yield from itertools.combinations(nodes, size)
        return
    for seed in nodes:  # each with its nearest ones
        nearest = sorted(nodes, key=lambda node: (host.distance(seed, node), node))
        yield tuple(sorted(nearest[:size]))


def _cost(host: HostTopology, load: Mapping[int, int], nodes: Sequence[int]) -> tuple[int, int]:
    apart = sum(host.distance(a, b) for a, b in itertools.permutations(nodes, 2))
    apart += sum(host.distance(node, nearest_memory(host, node)) for node in nodes)
    return apart, sum(load.get(cpu.id, 0) for cpu in host.cpus if cpu.node in nodes)


def nearest_memory(host: HostTopology, node: int) -> int:
    """The node itself, where it has memory that this process may use."""
    having = [other.id for other in host.nodes if other.memory and other.id in host.allowed_nodes] or [node]
    return min(having, key=lambda other: (other != node, host.distance(node, other), other))


def _memory_of(host: HostTopology, request: Request, nodes: Sequence[int]) -> int:
    return sum(free_memory(host, request, node) for node in {nearest_memory(host, node) for node in nodes})


def _unit(request: Request, nodes: int) -> int:
    """How many vCPUs stay together: sockets where they come out even, cores in any case."""
    shape = request.shape
    if shape is None:
        return 1
    return shape.cores * shape.threads if shape.sockets % nodes == 0 else shape.threads


def _distribute(request: Request, capacities: Sequence[int]) -> list[int]:
    """vCPUs a node: evenly, as far as there is room; evenly again when there is none."""
    unit = _unit(request, len(capacities))
    counts = [0] * len(capacities)
    for _ in range(request.cpus // unit):
        roomy = [node for node, count in enumerate(counts) if count + unit <= capacities[node]]
        counts[min(roomy or range(len(counts)), key=lambda node: counts[node])] += unit
    return counts


def _with_memory(host: HostTopology, request: Request, nodes: list[tuple[int, tuple[int, ...]]]) -> list[Group]:
    """Memory to each node by its vCPUs, from the nearest node that has any; what is too much goes where there is
    room. Nodes that give memory only come last."""
    shares = _split(request.memory, [len(vcpus) for _, vcpus in nodes], request.page)
    if min(shares) < SMALLEST:
        shares = [request.memory] + [0] * (len(nodes) - 1)
    memory: dict[int, int] = {}  # by index of a group
    whole = list(nodes)
    for index, ((node, _), share) in enumerate(zip(nodes, shares, strict=True)):
        giver = nearest_memory(host, node)
        if giver != node:
            if all(other != giver for other, _ in whole):
                whole.append((giver, ()))
            index = next(i for i, (other, _) in enumerate(whole) if other == giver)
        memory[index] = memory.get(index, 0) + share
    amounts = [memory.get(index, 0) for index in range(len(whole))]
    _level(host, request, [node for node, _ in whole], amounts)
    return [Group(node, vcpus, amount) for (node, vcpus), amount in zip(whole, amounts, strict=True)]


def _level(host: HostTopology, request: Request, nodes: list[int], amounts: list[int]) -> None:
    """Moves what a node has not got to those with room, nearest first."""
    granule = request.page or GRANULE
    room = [free_memory(host, request, node) // nodes.count(node) // granule * granule for node in nodes]
    if sum(room) < request.memory:
        return
    for index, node in enumerate(nodes):
        others = sorted(range(len(nodes)), key=lambda other: host.distance(node, nodes[other]))
        for other in others:
            excess = -(-max(amounts[index] - room[index], 0) // granule) * granule
            moved = min(excess, max(room[other] - amounts[other], 0) // granule * granule, amounts[index])
            if other != index and amounts[other] + moved >= SMALLEST:
                amounts[index] -= moved
                amounts[other] += moved


def _split(memory: int, weights: Sequence[int], page: int) -> list[int]:
    """In proportion, in whole granules; the first one gets what is left over."""
    if not weights:
        return []
    granule = page or GRANULE
    parts = [memory * weight // (sum(weights) or 1) // granule * granule for weight in weights]
    parts[0] += memory - sum(parts)
    return parts
