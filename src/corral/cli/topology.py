"""corral topology: this host's nodes, packages, cores and caches, and which guests run where."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.numa import cpu_list
from corral.numa.as_json import to_json
from corral.numa.host import Cpu, HostTopology, read
from corral.observe import live

COMMAND = Command(
    name="topology",
    summary="""\
Draws this host: NUMA nodes with their memory and distances, packages, caches, cores and CPUs, and what of them this
process may use. Behind CPUs are the vCPUs that run there; below are the machines, where their memory is, how
long their vCPUs ran and how long they waited for a CPU that something else had.""",
    options=(Option("json", "", "for programs"),),
    epilog="`corral boot --plan` shows where a guest would be put.",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    host, running = read(), live.running()
    print(to_json({"host": host, "running": running}) if "json" in arguments.values else text(host, running))
    return 0


def text(host: HostTopology, running: list[live.Running]) -> str:
    allowed = cpu_list.text(host.allowed_cpus)
    lines = [f"NUMA nodes: {len(host.nodes)}; CPUs: {len(host.cpus)}, of which this process may use {allowed}"]
    for node in host.nodes:
        pages = ", ".join(f"{pool.free} free pages of {pool.size >> 20}M" for pool in node.hugepages if pool.free)
        memory = f"{node.memory >> 20} MiB, {node.free >> 20} free" if node.memory else "no memory"
        lines += ["", f"node {node.id}  {memory}" + (f", {pages}" if pages else "")]
        lines += _node(host, [cpu for cpu in host.cpus if cpu.node == node.id], running)
    strays = [cpu for cpu in host.cpus if cpu.node == -1]
    if strays:
        lines += ["", "of no node", *_node(host, strays, running)]
    if len(host.nodes) > 1:
        names = [node.id for node in host.nodes]
        lines += ["", "distances  " + " ".join(f"{name:4}" for name in names)]
        lines += [f"{a:9}  " + " ".join(f"{host.distance(a, b):4}" for b in names) for a in names]
    for machine in running:
        lines += ["", *_machine(machine)]
    return "\n".join(lines)


def _node(host: HostTopology, cpus: list[Cpu], running: list[live.Running]) -> list[str]:
    """Package by package, a last cache a line, then its cores."""
    lines, last = [], (-1, -1)
    for cpu in sorted(cpus, key=lambda cpu: (cpu.package, cpu.llc, cpu.core, cpu.id)):
        if cpu.package != last[0]:
            lines.append(f"  package {cpu.package}")
        if (cpu.package, cpu.llc) != last:
            lines.append(f"    {_cache_words(cpu, shared=True)}")
        last = cpu.package, cpu.llc
        if cpu.id == cpu.core:
            lines.append(f"      core of {_cache_words(cpu, shared=False)}")
        note = "" if cpu.id in host.allowed_cpus else "  not for this process"
        sitting = [
            f"{machine.pid}:vcpu{vcpu.vcpu}" for machine in running for vcpu in machine.vcpus if vcpu.last == cpu.id
        ]
        lines.append(f"        CPU {cpu.id:<3} {' '.join(sitting)}{note}".rstrip())
    return lines


def _cache_words(cpu: Cpu, shared: bool) -> str:
    """Its last cache, or those below."""
    highest = max((cache.level for cache in cpu.caches), default=0)
    words = [
        f"L{cache.level}{cache.kind[:1].lower() if cache.kind != 'Unified' else ''} {_size(cache.size)}"
        for cache in cpu.caches
        if (cache.level == highest) == shared
    ]
    return ", ".join(words) or ("no shared cache told" if shared else "no cache told")


def _machine(machine: live.Running) -> list[str]:
    where = "memory not ours to look into"
    if machine.memory is not None:
        parts = [f"{size >> 20} MiB on node {node}" for node, size in sorted(machine.memory.items())]
        where = "memory " + ", ".join(parts)
    command = "".join(letter if letter.isprintable() else "?" for letter in machine.command[:80])  # anybody's
    lines = [f"process {machine.pid}: {command}", f"  {where}"]
    lines.append("  vCPU  may run on  last on      ran   waited  moves")
    for vcpu in machine.vcpus:
        moves = str(vcpu.migrations) if vcpu.migrations >= 0 else "-"
        places = f"{cpu_list.text(vcpu.cpus):>10}  {vcpu.last:7}"
        lines.append(f"  {vcpu.vcpu:4}  {places}  {vcpu.ran:7.2f}  {vcpu.waited:7.2f}  {moves:>5}")
    return lines


def _size(size: int) -> str:
    return f"{size >> 20}M" if size >= 1 << 20 and not size % (1 << 20) else f"{size >> 10}K"
