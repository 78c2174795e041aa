"""corral doctor: what this host's KVM is and can, and what is missing."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.doctor import Diagnosis, diagnose

COMMAND = Command(
    name="doctor",
    summary="""\
Tells which kind of KVM this host has and what that means for guests, how it runs their kernels' code, its
capabilities, permissions, CPUs, memory, huge pages and NUMA nodes, and for what is missing how to get it.""",
    options=(Option("json", "", "for programs"),),
    epilog="exit status: 0 Corral can boot here; 3 something is missing",
)

WIDTH = 110
MARK = {True: "yes", False: "no "}


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    diagnosis = diagnose()
    if "json" in arguments.values:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(diagnosis), default=vars, indent=2))
    else:
        print(_text(diagnosis))
    return 3 if diagnosis.problems else 0


def _text(d: Diagnosis) -> str:
    import textwrap

    from corral.doctor import NEEDED

    lines = [
        f"KVM         {d.kvm}; {d.device}; host kernel {d.kernel}",
        textwrap.fill(f"kind        {d.meaning}", WIDTH, subsequent_indent=" " * 12),
        textwrap.fill(f"supervisor  {d.supervisor}: {d.supervisor_reason}", WIDTH, subsequent_indent=" " * 12),
        textwrap.fill(f"boots       {d.boots}", WIDTH, subsequent_indent=" " * 12),
        f"disks       {d.disks}",
        textwrap.fill(f"shares      {d.shares}", WIDTH, subsequent_indent=" " * 12),
        textwrap.fill(f"networks    {d.networks}", WIDTH, subsequent_indent=" " * 12),
        textwrap.fill(f"jail        {d.jail.text}", WIDTH, subsequent_indent=" " * 12),
        f"CPU         {d.cpu}, {d.cpus} for this process",
        f"memory      {d.memory / (1 << 30):.1f} GiB, {d.memory_available / (1 << 30):.1f} available",
        "hugepages   " + (", ".join(f"{size}: {free} free" for size, free in d.hugepages.items()) or "none"),
    ]
    for node in d.nodes:
        free = f"{node.free / (1 << 30):.1f} of {node.memory / (1 << 30):.1f} GiB free"
        lines.append(f"NUMA node {node.number} CPUs {node.cpus or 'none'}; {free}")
    lines += ["", "capabilities that matter"]
    lines += [f"  {MARK[bool(d.capabilities.get(name))]} {name:16} {use}" for name, use in NEEDED.items()]
    lines.append("")
    lines += [f"missing: {problem}" for problem in d.problems]
    lines += [f"missing: {sentence}" for sentence in d.advice]
    lines += [] if d.problems or d.advice else ["Nothing is missing: corral boot."]
    return "\n".join(lines)
