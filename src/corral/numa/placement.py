"""From the host's topology and a request to a plan. Pure: nothing is looked at and nothing is changed here."""

from __future__ import annotations

from corral.numa import checks, cores
from corral.numa.groups import groups, usable
from corral.numa.host import REMOTE
from corral.numa.plan import Plan, PlannedNode
from corral.numa.shape import shaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.numa.groups import Group
    from corral.numa.host import HostTopology
    from corral.numa.request import Request


def place(host: HostTopology, request: Request, load: Mapping[int, int] | None = None) -> Plan:
    """`load`: on how many other machines' behalf each CPU has a vCPU pinned to it.

    Raises ConfigError for what contradicts itself or this host, HostError for pages that are not there.
    """
    load = load or {}
    checks.request(host, request)
    chosen = groups(host, request, load)
    node_of = {vcpu: number for number, group in enumerate(chosen) for vcpu in group.vcpus}
    nodes = [node_of[vcpu] for vcpu in range(request.cpus)]
    where = _cpus(host, request, chosen, load)
    checks.cores(request, nodes)
    checks.pages(host, request, chosen)
    return Plan(
        policy=_words(request),
        cpus=shaped(host, nodes, where, request.shape),
        nodes=tuple(PlannedNode(group.host, group.memory) for group in chosen),
        distances=_distances(host, chosen),
        strict=bool(request.map or request.nodes or request.page or request.policy in ("compact", "spread")),
        bind=request.bind and len(host.nodes) > 1,
        page=request.page,
        prealloc=request.prealloc or bool(request.page),
        caches=request.caches,
        workers=_workers(host, request, chosen, where, load),
    )


def _cpus(
    host: HostTopology, request: Request, chosen: Sequence[Group], load: Mapping[int, int]
) -> list[tuple[int, ...]]:
    """Of each vCPU those of the host's CPUs that it may run on: one, or where that does not come out for all, those of
    its node, among which the host's scheduler shares them out."""
    where = dict(request.pin_map)
    if request.pin != "none":
        pinned = _pinned(host, request, chosen, load)
        for group in chosen:
            here = tuple(cpu.id for cpu in usable(host, request) if group.host in (-1, cpu.node))
            anywhere = group.host == -1 and len(here) == len(host.cpus)
            for vcpu in group.vcpus:
                where.setdefault(vcpu, pinned[vcpu] if pinned else () if anywhere else here)
    return [where.get(vcpu, ()) for vcpu in range(request.cpus)]


def _pinned(
    host: HostTopology, request: Request, chosen: Sequence[Group], load: Mapping[int, int]
) -> dict[int, tuple[int, ...]] | None:
    """A CPU of its own for each vCPU that is not on the request's map; None when there are too few."""
    pins = dict(request.pin_map)
    taken = dict(load) | {cpu: 1 for cpus in pins.values() for cpu in cpus}
    threads = request.shape.threads if request.shape else 0
    found = dict(request.pin_map)
    for group in chosen:
        vcpus = [vcpu for vcpu in group.vcpus if vcpu not in pins]
        here = [cpu for cpu in usable(host, request) if group.host in (-1, cpu.node)]
        cpus = cores.choose(here, len(vcpus), threads, taken)
        if cpus is None:
            return None
        found |= {vcpu: (cpu.id,) for vcpu, cpu in zip(vcpus, cpus, strict=True)}
        taken |= {cpu.id: 1 for cpu in cpus}
    return found


def _workers(
    host: HostTopology,
    request: Request,
    chosen: Sequence[Group],
    where: Sequence[tuple[int, ...]],
    load: Mapping[int, int],
) -> tuple[int, ...]:
    """What is left for other threads: of the guest's own nodes if it can be, of any if it must; () for anything."""
    pinned = {cpus[0] for cpus in where if len(cpus) == 1}
    if not pinned:
        return ()
    nodes = {group.host for group in chosen}
    left = [cpu for cpu in host.usable() if cpu.id not in pinned]
    near = [cpu for cpu in left if cpu.node in nodes or -1 in nodes]
    for some in (near, left):
        idle = tuple(cpu.id for cpu in some if not load.get(cpu.id))
        if idle:
            return idle
    return tuple(cpu.id for cpu in left)


def _distances(host: HostTopology, chosen: Sequence[Group]) -> tuple[tuple[int, ...], ...]:
    def between(a: int, b: int) -> int:
        if a == b:
            return 10
        real = host.distance(chosen[a].host, chosen[b].host)
        return real if chosen[a].host != chosen[b].host and real > 10 else REMOTE

    return tuple(tuple(between(a, b) for b in range(len(chosen))) for a in range(len(chosen)))


def _words(request: Request) -> str:
    if request.map:
        return "by an explicit map"
    nodes = f", {request.nodes} nodes" if request.nodes else ""
    return f"{request.policy}{nodes}" + (", not pinned" if request.pin == "none" else "")
