"""What contradicts itself, or this host: one line each, before anything is created."""

from __future__ import annotations

from corral.errors import ConfigError, HostError
from corral.numa import cpu_list
from corral.numa.groups import SMALLEST, free_memory, usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.numa.groups import Group
    from corral.numa.host import HostTopology
    from corral.numa.request import Request


def request(host: HostTopology, wanted: Request) -> None:
    if wanted.shape is not None and wanted.shape.cpus != wanted.cpus:
        raise ConfigError(f"sockets, cores and threads make {wanted.shape.cpus} CPUs, not {wanted.cpus}")
    cores = wanted.cpus // (wanted.shape.threads if wanted.shape else 1)
    if wanted.nodes > cores:
        raise ConfigError(f"--numa nodes={wanted.nodes} with {cores} cores: some would have none; see docs/numa.md")
    if wanted.page and wanted.memory % wanted.page:
        raise ConfigError(f"{wanted.memory >> 20} MiB of memory are not whole huge pages of {wanted.page >> 20} MiB")
    if wanted.pin == "none" and (wanted.pin_cpus or wanted.pin_map):
        raise ConfigError("CPUs to pin to, and no pinning, exclude each other")
    _cpus(host, wanted.pin_cpus)
    for vcpu, cpus in wanted.pin_map:
        if vcpu >= wanted.cpus:
            raise ConfigError(f"--pin names vCPU {vcpu}, and there are 0 to {wanted.cpus - 1}")
        _cpus(host, cpus)
    if wanted.map:
        _map(host, wanted)


def _cpus(host: HostTopology, cpus: Sequence[int]) -> None:
    there = {cpu.id for cpu in host.cpus}
    missing = [cpu for cpu in cpus if cpu not in there]
    if missing:
        raise ConfigError(
            f"--pin: CPU {cpu_list.text(missing)} is not there or offline; this host has {cpu_list.text(there)}"
        )
    forbidden = [cpu for cpu in cpus if cpu not in host.allowed_cpus]
    if forbidden:
        raise ConfigError(
            f"--pin: CPU {cpu_list.text(forbidden)} is not for this process; its affinity or cpuset allows "
            f"{cpu_list.text(host.allowed_cpus)}"
        )


def _map(host: HostTopology, request: Request) -> None:
    named = [vcpu for node in request.map for vcpu in node.vcpus]
    for vcpu in range(request.cpus):
        if named.count(vcpu) != 1:
            count = "no node" if vcpu not in named else "two nodes"
            raise ConfigError(f"--numa: vCPU {vcpu} is on {count} of the map; each of the {request.cpus} is on one")
    if max(named, default=0) >= request.cpus:
        raise ConfigError(f"--numa: the map has vCPU {max(named)}, and there are 0 to {request.cpus - 1}")
    memory = sum(node.memory or 0 for node in request.map)
    open_ended = any(node.memory is None for node in request.map)
    if memory > request.memory or (memory < request.memory and not open_ended):
        raise ConfigError(
            f"--numa: the nodes have {memory >> 20} MiB together, and the guest {request.memory >> 20} MiB; "
            "see --memory"
        )
    pins = dict(request.pin_map)
    for node in request.map:
        real = next((found for found in host.nodes if found.id == node.host), None)
        if real is None:
            raise ConfigError(
                f"--numa: this host has no node {node.host}, but {cpu_list.text(found.id for found in host.nodes)}"
            )
        if node.vcpus and not [cpu for cpu in usable(host, request) if cpu.node == node.host]:
            raise ConfigError(f"--numa: node {node.host} has vCPUs, and no CPUs that this process may use")
        if node.memory and node.host not in host.allowed_nodes:
            raise ConfigError(f"--numa: this process may take no memory from node {node.host}: its cpuset forbids it")
        if (node.memory or 0) > real.memory:
            raise ConfigError(
                f"--numa: node {node.host} has {real.memory >> 20} MiB; {(node.memory or 0) >> 20} MiB do not fit"
            )
        if node.memory and (node.memory < SMALLEST or node.memory % (request.page or 4096)):
            raise ConfigError(f"--numa: {node.memory} bytes are no memory for a node; whole pages, 4 MiB or more")
        on_node = {cpu.id for cpu in host.cpus if cpu.node == node.host}
        for vcpu in node.vcpus:
            elsewhere = [cpu for cpu in pins.get(vcpu, ()) if cpu not in on_node]
            if elsewhere:
                raise ConfigError(
                    f"vCPU {vcpu}: --pin has it on CPU {cpu_list.text(elsewhere)}, --numa on node {node.host}, which "
                    f"has CPUs {cpu_list.text(on_node)}"
                )


def cores(request: Request, nodes: Sequence[int]) -> None:
    threads = request.shape.threads if request.shape else 1
    for vcpu, node in enumerate(nodes):
        first = vcpu - vcpu % threads
        if nodes[first] != node:
            raise ConfigError(
                f"vCPUs {first} and {vcpu} are threads of one core and on two nodes; put them together, or ask for "
                "threads=1"
            )


def pages(host: HostTopology, request: Request, chosen: Sequence[Group]) -> None:
    if request.thp and not host.thp:
        raise HostError(
            "this host gives no transparent huge pages; as root: echo madvise > "
            "/sys/kernel/mm/transparent_hugepage/enabled"
        )
    if not request.page:
        return
    size = f"{request.page >> 20}M"
    if not any(pool.size == request.page for node in host.nodes for pool in node.hugepages):
        raise HostError(f"this host has no {size} pages; boot it with hugepagesz={size} hugepages=N")
    for group in chosen:
        nodes = [group.host] if group.host >= 0 else sorted(host.allowed_nodes)
        free = sum(free_memory(host, request, node) for node in nodes)
        same = sum(other.memory for other in chosen if other.host == group.host)
        if free < same:
            folder = f"/sys/devices/system/node/node{nodes[0]}/hugepages/hugepages-{request.page >> 10}kB"
            pool = next(node for node in host.nodes if node.id == nodes[0]).pool(request.page)
            missing = (same - free) // request.page
            raise HostError(  # the file takes the size of the whole pool: what others use stays in it
                f"{same // request.page} free {size} pages are needed on node {cpu_list.text(nodes)}, which has "
                f"{free // request.page}; as root: echo {pool.total + missing} > {folder}/nr_hugepages"
            )
