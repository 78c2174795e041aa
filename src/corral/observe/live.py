"""What became of a plan: on which nodes guest memory is, and where vCPUs ran. From /proc, of this and other processes.

Sources: Documentation/filesystems/proc.rst, numa_maps(5), Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import os

from corral import host_files
from corral.numa import cpu_list
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.machine import Machine

_PAGE_KIND = "kernelpagesize_kB="


@record(frozen=True)
class VcpuFacts:
    """`cpus`: it may run on these; `last`: it ran on this one. `ran` and `waited` are in seconds: a wait is for a CPU
    that somebody else had, what a guest calls stolen. `migrations`: moves from CPU to CPU, -1 if not told."""

    vcpu: int
    tid: int
    cpus: tuple[int, ...]
    last: int
    ran: float
    waited: float
    migrations: int


@record(frozen=True)
class Running:
    """A process with vCPUs. `memory`: bytes of it by node of the host; None where it is somebody else's."""

    pid: int
    command: str
    vcpus: tuple[VcpuFacts, ...]
    memory: dict[int, int] | None


def residency(machine: Machine) -> list[dict[int, int]]:
    """Of each node of the guest the bytes of its memory that there are, by node of the host."""
    plan = machine.config.plan
    sizes = [node.memory for node in plan.nodes] if plan else [machine.config.memory]
    at, found = machine.memory.host_address, []
    pieces = list(_maps("/proc/self/numa_maps"))
    for size in sizes:
        inside = [nodes for address, nodes in pieces if at <= address < at + size]
        found.append(_sum(inside))
        at += size
    return found


def vcpus(machine: Machine) -> list[VcpuFacts]:
    """Of the vCPUs whose threads run."""
    return [
        facts
        for thread in machine.threads
        if thread.tid and (facts := _facts(f"/proc/self/task/{thread.tid}", thread.index, thread.tid))
    ]


def running(proc: str = "/proc") -> list[Running]:
    """Every process here that runs vCPUs in threads named vcpu0, vcpu1..., as Corral's do."""
    found = []
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        threads = []
        for tid in host_files.names(f"{proc}/{pid}/task"):
            name = host_files.text(f"{proc}/{pid}/task/{tid}/comm").strip()
            if name.startswith("vcpu") and name[4:].isdigit():
                facts = _facts(f"{proc}/{pid}/task/{tid}", int(name[4:]), int(tid))
                threads += [facts] if facts else []
        if threads:
            command = host_files.text(f"{proc}/{pid}/cmdline").replace("\0", " ").strip()
            maps = f"{proc}/{pid}/numa_maps"
            memory = _sum(nodes for _, nodes in _maps(maps)) if os.access(maps, os.R_OK) else None
            found.append(Running(pid, command, tuple(sorted(threads, key=lambda one: one.vcpu)), memory))
    return found


def _facts(folder: str, vcpu: int, tid: int) -> VcpuFacts | None:
    """None when the thread is gone."""
    status = dict(line.split(":", 1) for line in host_files.text(f"{folder}/status").splitlines() if ":" in line)
    stat = host_files.text(f"{folder}/stat").rpartition(")")[2].split()
    if not status or len(stat) < 37:
        return None
    times = host_files.text(f"{folder}/schedstat").split() or ["0", "0"]
    migrations = -1
    for line in host_files.text(f"{folder}/sched").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "se.nr_migrations" and value.strip().isdigit():
            migrations = int(value)
    return VcpuFacts(
        vcpu=vcpu,
        tid=tid,
        cpus=cpu_list.parse(status.get("Cpus_allowed_list", "")),
        last=int(stat[36]),  # field 39 of proc(5), the second of which ends with the parenthesis
        ran=int(times[0]) / 1e9,
        waited=int(times[1]) / 1e9,
        migrations=migrations,
    )


def _maps(path: str) -> Iterator[tuple[int, dict[int, int]]]:
    """Address of a mapping, and its bytes by node."""
    for line in host_files.text(path).splitlines():
        words = line.split()
        sizes = [word for word in words if word.startswith(_PAGE_KIND)]
        size = int(sizes[0].removeprefix(_PAGE_KIND)) << 10 if sizes else 4096
        nodes = {}
        for word in words:
            name, _, pages = word.partition("=")
            if name[:1] == "N" and name[1:].isdigit() and pages.isdigit():
                nodes[int(name[1:])] = int(pages) * size
        yield int(words[0], 16), nodes


def _sum(parts: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for part in parts:
        for node, size in part.items():
            total[node] = total.get(node, 0) + size
    return total
