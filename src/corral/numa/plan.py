"""A plan: where each vCPU runs, where each part of the memory lies, and what the guest is to see of it."""

from __future__ import annotations

from corral.numa import cpu_list
from corral.startup.record import record


@record(frozen=True)
class PlannedNode:
    """A NUMA node of the guest. `memory` in bytes; `host` is the node it lies on and its vCPUs run on, -1 for any."""

    host: int
    memory: int


@record(frozen=True)
class PlannedCpu:
    """A vCPU. `cpus` are those of the host that it may run on, () for any.

    The rest is its place in the guest: numbers from 0 within what is around them. A complex shares the last cache.
    """

    node: int
    cpus: tuple[int, ...] = ()
    package: int = 0
    die: int = 0
    complex: int = 0
    core: int = 0
    thread: int = 0


@record(frozen=True)
class Plan:
    """`policy` says in words what it was made by. `strict`: memory lies on its node or nowhere.

    `workers` are the host's CPUs for the VMM's and the disks' threads, () for any. `page`: bytes of a huge page of the
    host's pool, 0 for none. `prealloc`: all memory is made at the start. `caches`: the guest is told which of its
    processors share them.
    """

    policy: str
    cpus: tuple[PlannedCpu, ...]
    nodes: tuple[PlannedNode, ...]
    distances: tuple[tuple[int, ...], ...]
    workers: tuple[int, ...] = ()
    strict: bool = False
    bind: bool = True
    page: int = 0
    prealloc: bool = False
    caches: bool = True

    @property
    def pinned(self) -> tuple[int, ...]:
        """The host's CPUs that have one vCPU each."""
        return tuple(cpu.cpus[0] for cpu in self.cpus if len(cpu.cpus) == 1)

    @property
    def shows_nodes(self) -> bool:
        return len(self.nodes) > 1

    def memory_ranges(self) -> list[tuple[int, int, int]]:
        """(offset, bytes, host's node) of the guest's RAM, in order; those that are bound to a node."""
        ranges, at = [], 0
        for node in self.nodes:
            if node.memory and node.host >= 0 and self.bind:
                ranges.append((at, node.memory, node.host))
            at += node.memory
        return ranges


def table(plan: Plan) -> str:
    """For people."""
    lines = [f"placement: {plan.policy}", "", "node  on host node    memory  vCPUs"]
    for number, node in enumerate(plan.nodes):
        vcpus = cpu_list.text(index for index, cpu in enumerate(plan.cpus) if cpu.node == number)
        host = str(node.host) if node.host >= 0 else "any"
        lines.append(f"{number:4}  {host:>12}  {node.memory / (1 << 20):6.0f} M  {vcpus or '-'}")
    if plan.shows_nodes:
        lines += ["", "distances  " + "  ".join(f"{node:3}" for node in range(len(plan.nodes)))]
        lines += [f"{node:9}  " + "  ".join(f"{to:3}" for to in row) for node, row in enumerate(plan.distances)]
    lines += ["", "vCPU  node  package  die  complex  core  thread  on the host's CPUs"]
    for index, cpu in enumerate(plan.cpus):
        place = f"{cpu.node:4}  {cpu.package:7}  {cpu.die:3}  {cpu.complex:7}  {cpu.core:4}  {cpu.thread:6}"
        lines.append(f"{index:4}  {place}  {cpu_list.text(cpu.cpus) or 'any'}")
    lines += ["", f"other threads: CPUs {cpu_list.text(plan.workers) or 'any'}"]
    if plan.page:
        lines.append(f"memory in pages of {plan.page >> 20} MiB")
    if plan.prealloc:
        lines.append("memory is all taken at the start")
    return "\n".join(lines)
