"""numa: what placement is worth. One guest over all nodes of this host, with one part of the plan after the other.

The ablation of a well-known comparison of KVM and containers (IBM RC25482): memory streamed, pointers chased, a small
Linpack, in a guest that is flat, that is told of nodes alone, whose vCPUs are pinned, whose memory is bound, that sees
which caches are shared, and with all of that; each against the same program on the host. On a host with one node there
is nothing to see. `--nested` runs it on two nodes of an emulated host, whose memory is all alike: that shows that it
runs, and no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks import work
from benchmarks.measure import Samples, interleaved, report
from corral.compare.measures.placed import nodes, one_of_each_core
from corral.guests import initramfs, kernel, parameters
from corral.kvm.system import Kind
from corral.numa import host, placement
from corral.numa.request import Request
from tests.support.guest_tools import initramfs_with

ROUNDS = 5
SECONDS = "1"
MODES = {"stream": "1 MB", "chase": "a million hops", "linpack": "1e9 operations"}
PER_VCPU = 192 << 20  # bytes of guest memory: the arrays take half of it
# Fields of a Request; `nodes` where the guest has the host's.
PARTS: dict[str, dict[str, object]] = {
    "flat": {"policy": "none", "pin": "none", "caches": False},
    "told of nodes": {"policy": "spread", "pin": "none", "bind": False, "caches": False},
    "pinned": {"policy": "none", "caches": False},
    "memory bound": {"policy": "spread", "pin": "none", "caches": False},
    "caches shown": {"policy": "spread", "bind": False},
    "all": {"policy": "spread"},
}


def cores() -> tuple[int, ...]:
    """A CPU of each."""
    return one_of_each_core(tuple(os.sched_getaffinity(0)))


def guest(part: str, archive: str) -> None:
    """Boots one guest and prints what its program prints."""
    from corral.backends.console import Console
    from corral.config import MachineConfig
    from corral.machine import Machine

    found = host.read()
    cpus = len(cores())
    request = Request(cpus, cpus * PER_VCPU, **PARTS[part])  # type: ignore[arg-type]
    command = [work.NAME, SECONDS]
    line = f"{parameters.for_kind(Kind.HARDWARE, stock=True, acpi=True)} {parameters.for_command(command)}"
    config = MachineConfig(
        kernel=kernel.get("stock").path,
        initrd=archive,
        cmdline=line,
        memory=request.memory,
        cpus=cpus,
        acpi=True,
        plan=placement.place(found, request),
    )
    with Machine(config) as machine:
        machine.run(Console(output=1), timeout=300)


def native() -> dict[str, float]:
    """The program on the host, a thread a core, by mode."""
    rates = {}
    for mode in MODES:
        argv = [work.program(), SECONDS, mode, *map(str, cores())]
        rates[mode] = work.rate(subprocess.run(argv, capture_output=True, text=True, check=True).stdout) or 0.0
    return rates


def inside(part: str, archive: str) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.numa", "guest", part, archive]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if work.rate(line) is not None]
    assert len(lines) == len(MODES), done.stdout + done.stderr
    return {line.split()[0]: work.rate(line) or 0.0 for line in lines}


def measured(archive: str) -> dict[str, Samples]:
    """By mode the time of so much work, by contender."""
    times: dict[str, Samples] = {mode: {} for mode in MODES}

    def note(name: str, rates: dict[str, float]) -> float:
        for mode in MODES:
            times[mode].setdefault(name, []).append(1 / rates[mode])
        return 0.0

    contenders = {"native": lambda: note("native", native())}
    for part in PARTS:
        contenders[part] = lambda part=part: note(part, inside(part, archive))  # type: ignore[misc]
    interleaved(contenders, ROUNDS, warm_up=0)
    return times


def show(times: dict[str, Samples]) -> None:
    for mode in MODES:
        report(f"{mode}: time of {MODES[mode]}, all cores", times[mode], "native")


def main() -> bool:
    archive = initramfs_with([work.program()])
    if "--nested" in sys.argv:
        from tests.nested.host import NestedHost

        initramfs.path(), kernel.get("stock")
        two = [([0, 1], 1536), ([2, 3], 1536)]
        with NestedHost(cpus=4, nodes=two, distances={(0, 1): 21, (1, 0): 21}) as emulated:
            done = emulated.run([sys.executable, "-m", "benchmarks.numa", "here", archive], timeout=1500)
        print("\nan emulated host with two nodes, whose memory is all alike: its figures say nothing of placement")
        if done.status:
            raise RuntimeError(done.stderr)
        show(json.loads(done.stdout.splitlines()[-1]))
        return True
    if nodes() < 2:
        print("\nnuma: this host has one node, so there is nothing that placement could change here")
        return True
    show(measured(archive))
    return True


if __name__ == "__main__":
    if sys.argv[1:2] == ["guest"]:
        guest(*sys.argv[2:4])
    elif sys.argv[1:2] == ["here"]:
        os.environ["PYTHONWARNINGS"] = "ignore"
        print(json.dumps(measured(sys.argv[2])))
    else:
        sys.exit(not main())
