"""The guest's own topology: as it is where its vCPUs are pinned, as it was asked for, or a core for each vCPU."""

from __future__ import annotations

from corral.numa.plan import PlannedCpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from corral.numa.host import HostTopology
    from corral.numa.request import Shape


class _Numbers:
    """Counts from 0 within each surrounding, in the order of first sight."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, dict[Hashable, int]] = {}

    def of(self, what: Hashable, within: Hashable = None) -> int:
        seen = self._seen.setdefault(within, {})
        return seen.setdefault(what, len(seen))


def shaped(
    host: HostTopology, nodes: Sequence[int], where: Sequence[tuple[int, ...]], shape: Shape | None
) -> tuple[PlannedCpu, ...]:
    """`nodes` and `where` have each vCPU's node and its CPUs of the host."""
    pinned = [cpus[0] for cpus in where if len(cpus) == 1]
    if shape is not None:
        return _as_asked(nodes, where, shape)
    if len(set(pinned)) == len(where):
        return _as_the_host(host, nodes, where)
    numbers = _Numbers()
    return tuple(
        PlannedCpu(node, cpus, package=numbers.of(node), core=numbers.of(vcpu, node))
        for vcpu, (node, cpus) in enumerate(zip(nodes, where, strict=True))
    )


def _as_the_host(host: HostTopology, nodes: Sequence[int], where: Sequence[tuple[int, ...]]) -> tuple[PlannedCpu, ...]:
    """Without the holes. Linux wants caches and siblings within one node, so a node's border divides both. That of a
    node that the host has not got divides packages too: Linux takes an old AMD's package for what shares a cache.
    """
    by_id = {cpu.id: cpu for cpu in host.cpus}
    guests_nodes: dict[int, set[int]] = {}
    for node, cpus in zip(nodes, where, strict=True):
        guests_nodes.setdefault(by_id[cpus[0]].node, set()).add(node)
    packages, dies, complexes, cores, threads = (_Numbers() for _ in range(5))
    planned = []
    for node, cpus in zip(nodes, where, strict=True):
        real = by_id[cpus[0]]
        package = real.package, node if len(guests_nodes[real.node]) > 1 else -1
        die = *package, real.die
        complex = *die, real.llc, node
        core = *complex, real.core
        planned.append(
            PlannedCpu(
                node=node,
                cpus=cpus,
                package=packages.of(package),
                die=dies.of(die, package),
                complex=complexes.of(complex, die),
                core=cores.of(core, complex),
                thread=threads.of(real.id, core),
            )
        )
    return tuple(planned)


def _as_asked(nodes: Sequence[int], where: Sequence[tuple[int, ...]], shape: Shape) -> tuple[PlannedCpu, ...]:
    complexes, cores = _Numbers(), _Numbers()
    planned = []
    for vcpu, (node, cpus) in enumerate(zip(nodes, where, strict=True)):
        core, thread = divmod(vcpu, shape.threads)
        package = core // shape.cores
        complex = complexes.of(node, package)
        number = cores.of(core, (package, complex))
        planned.append(PlannedCpu(node, cpus, package, 0, complex, number, thread))
    return tuple(planned)
