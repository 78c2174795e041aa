"""The host's topology, from sysfs and /proc: nodes, distances, packages, cores, threads, caches, and what this process
may use of them.

Sources: Documentation/admin-guide/cputopology.rst, Documentation/ABI/stable/sysfs-devices-node, and
Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

from __future__ import annotations

import os

from corral import host_files
from corral.errors import HostError
from corral.numa import cpu_list
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")

LOCAL, REMOTE = 10, 20  # distances where the firmware tells none


@record(frozen=True)
class Cache:
    """`kind` is "Data", "Instruction" or "Unified", `size` in bytes, `cpus` those that share it."""

    level: int
    kind: str
    size: int
    cpus: tuple[int, ...]


@record(frozen=True)
class Cpu:
    """An online CPU. `core`: the lowest CPU among its SMT siblings; `package` and `die` are the host's own numbers.

    `node` is -1 where it belongs to none.
    """

    id: int
    node: int
    package: int
    die: int
    core: int
    caches: tuple[Cache, ...] = ()

    @property
    def llc(self) -> int:
        """The lowest CPU among those that share the last cache with this one."""
        last = max(self.caches, key=lambda cache: cache.level, default=None)
        return last.cpus[0] if last and last.cpus else self.core


@record(frozen=True)
class HugePages:
    """A node's pool of pages of `size` bytes: how many there are, and how many of them a program can still have."""

    size: int
    free: int
    total: int


@record(frozen=True)
class Node:
    """Memory in bytes; `free` counts page cache, which the kernel gives back at once."""

    id: int
    memory: int
    free: int
    hugepages: tuple[HugePages, ...] = ()

    def pool(self, size: int) -> HugePages:
        """Of pages with that size; an empty one where the host has none such."""
        return next((pool for pool in self.hugepages if pool.size == size), HugePages(size, 0, 0))


@record(frozen=True)
class HostTopology:
    """`cpus` are the online ones, in order, as are `nodes`; `distances[a, b]` is from node a's CPUs to b's memory.

    `allowed_cpus` and `allowed_nodes` are what this process may run on and take memory from.
    `thp`: programs can ask for transparent huge pages.
    """

    cpus: tuple[Cpu, ...]
    nodes: tuple[Node, ...]
    distances: dict[tuple[int, int], int]
    allowed_cpus: frozenset[int]
    allowed_nodes: frozenset[int]
    thp: bool = True

    def distance(self, source: int, target: int) -> int:
        return self.distances.get((source, target), LOCAL if source == target else REMOTE)

    def usable(self, node: int | None = None) -> list[Cpu]:
        """The CPUs that this process may use, of one node or of all."""
        return [cpu for cpu in self.cpus if cpu.id in self.allowed_cpus and node in (None, cpu.node)]


def read(sys: str = "/sys", proc: str = "/proc") -> HostTopology:
    """Raises HostError when there is no sysfs that tells of CPUs."""
    nodes = _list(f"{sys}/devices/system/node/online") or (0,)
    node_of = {cpu: node for node in nodes for cpu in _list(f"{sys}/devices/system/node/node{node}/cpulist")}
    if not os.path.isdir(f"{sys}/devices/system/node"):
        node_of = dict.fromkeys(_list(f"{sys}/devices/system/cpu/online"), 0)
    online = _list(f"{sys}/devices/system/cpu/online")
    if not online:
        raise HostError(f"{sys} tells of no CPUs; mount sysfs there")
    cpus = tuple(_cpu(f"{sys}/devices/system/cpu/cpu{cpu}", cpu, node_of.get(cpu, -1)) for cpu in online)
    return HostTopology(
        cpus=cpus,
        nodes=tuple(_node(sys, proc, node, alone=len(nodes) == 1) for node in nodes),
        distances=_distances(sys, nodes),
        allowed_cpus=_allowed(proc, "Cpus_allowed_list", online),
        allowed_nodes=_allowed(proc, "Mems_allowed_list", nodes),
        thp="[never]" not in host_files.text(f"{sys}/kernel/mm/transparent_hugepage/enabled"),
    )


def _cpu(folder: str, number: int, node: int) -> Cpu:
    siblings = _list(f"{folder}/topology/thread_siblings_list") or (number,)
    caches = []
    for name in host_files.names(f"{folder}/cache"):
        if name.startswith("index"):
            cache = f"{folder}/cache/{name}"
            sharing = _list(f"{cache}/shared_cpu_list") or (number,)
            level, kind = _number(f"{cache}/level"), host_files.text(f"{cache}/type")
            caches.append(Cache(max(level, 0), kind, _size(host_files.text(f"{cache}/size")), sharing))
    package = max(_number(f"{folder}/topology/physical_package_id"), 0)
    return Cpu(number, node, package, max(_number(f"{folder}/topology/die_id"), 0), siblings[0], tuple(caches))


def _node(sys: str, proc: str, node: int, alone: bool) -> Node:
    """`alone`: the host has no other, so what it has promised to programs is promised of this one's pages."""
    folder = f"{sys}/devices/system/node/node{node}"
    facts = memory_facts(f"{folder}/meminfo") or memory_facts(f"{proc}/meminfo")
    free = sum(facts.get(name, 0) for name in ("MemFree", "Inactive(file)", "Active(file)", "SReclaimable"))
    huge = []
    for name in host_files.names(f"{folder}/hugepages"):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        if size.isdigit():
            promised = _number(f"{sys}/kernel/mm/hugepages/{name}/resv_hugepages") if alone else 0
            unused = _number(f"{folder}/hugepages/{name}/free_hugepages") - max(promised, 0)
            total = _number(f"{folder}/hugepages/{name}/nr_hugepages")
            huge.append(HugePages(int(size) << 10, max(unused, 0), max(total, 0)))
    pools = tuple(sorted(huge, key=lambda pool: pool.size))
    return Node(node, facts.get("MemTotal", 0), min(free, facts.get("MemTotal", 0)), pools)


def _distances(sys: str, nodes: Iterable[int]) -> dict[tuple[int, int], int]:
    """A row has a number for each online node, in order."""
    distances = {}
    for node in nodes:
        row = host_files.text(f"{sys}/devices/system/node/node{node}/distance").split()
        for other, word in zip(nodes, row, strict=False):
            if word.isdigit():
                distances[node, other] = int(word)
    return distances


def _allowed(proc: str, name: str, all_of_them: Iterable[int]) -> frozenset[int]:
    """The affinity mask and the cgroup's cpuset together, as the kernel has it for this process."""
    for line in host_files.text(f"{proc}/self/status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return frozenset(cpu_list.parse(value)) & frozenset(all_of_them)
    return frozenset(all_of_them)


def memory_facts(path: str) -> dict[str, int]:
    """Bytes by name, of /proc/meminfo or of a node's, which puts "Node N " in front of each line."""
    facts = {}
    for line in host_files.text(path).splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            facts[name.split()[-1]] = int(words[0]) << (10 if words[-1] == "kB" else 0)
    return facts


def _size(text: str) -> int:
    """Bytes of "32K", as the kernel writes sizes of caches."""
    number = text.rstrip("KMG")
    shift = {"K": 10, "M": 20, "G": 30}.get(text[len(number) :], 0)
    return int(number) << shift if number.isdigit() else 0


def _list(path: str) -> tuple[int, ...]:
    return _parsed(cpu_list.parse, path, ())


def _number(path: str) -> int:
    """-1 where there is none."""
    return _parsed(int, path, -1)


def _parsed(parse: Callable[[str], T], path: str, missing: T) -> T:
    text = host_files.text(path)
    try:
        return parse(text) if text else missing
    except ValueError:
        return missing
