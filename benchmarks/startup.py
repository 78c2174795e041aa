"""startup: from process start over a guest's first and last instruction to process end, against QEMU microvm; and what
the jail adds to it.

And what its interrupt controllers make a VM wait for: one with memory and a vCPU is made and closed in this process.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import closing
from functools import partial

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from corral.arch.x86_64 import layout
from corral.kvm.system import System
from corral.memory import GuestMemory
from tests.support.tiny_guests import tiny_guest

ROUNDS = 41
MEMORY = "128"  # MiB
WITHOUT = "Corral, --jail off"
MOST_JAIL = 1.0  # ms

FULL, LATE, SPLIT = (
    "controllers of KVM, then memory",
    "memory, then controllers of KVM",
    "memory, then split controllers",
)


def wait(order: str) -> float:
    """Seconds from the making of a VM to its end."""
    with System() as system, closing(GuestMemory(int(MEMORY) << 20)) as memory:
        start = time.perf_counter()
        vm = system.create_vm()
        vm.set_identity_map(layout.IDENTITY_MAP)
        vm.set_tss_area(layout.TSS_AREA)
        if order == FULL:
            vm.create_irqchip()
        for slot, (gpa, length) in enumerate(memory.regions):
            vm.set_memory_slot(slot, gpa, length, memory.host_address + memory.offset(gpa, length))
        if order == LATE:
            vm.create_irqchip()
        elif order == SPLIT:
            vm.split_irqchip(24)
        vm.create_vcpu(0, memory.native).close()
        vm.close()
        return time.perf_counter() - start


def main() -> bool:
    guest = str(tiny_guest("reset"))
    corral = installed.corral()
    python = corral.removesuffix("corral") + "python"
    environment = installed.environment()
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m", MEMORY, "-display", "none", "-nodefaults"]
    qemu += ["-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", guest]
    contenders = {
        "Corral": lambda: seconds([corral, "boot", guest, "--memory", f"{MEMORY}M"], environment),
        WITHOUT: lambda: seconds([corral, "boot", guest, "--memory", f"{MEMORY}M", "--jail", "off"], environment),
        "QEMU microvm": lambda: seconds(qemu),
        "python -c pass, the floor": lambda: seconds([python, "-c", "pass"], environment),
    }
    samples = interleaved(contenders, ROUNDS)
    medians = report("startup: a guest that resets at once, whole process", samples, "QEMU microvm")
    waits = interleaved({order: partial(wait, order) for order in (FULL, LATE, SPLIT)}, ROUNDS)
    report("a VM with memory and a vCPU, made and closed", waits, FULL)
    pairs = zip(samples["Corral"], samples[WITHOUT], strict=True)
    jail = statistics.median(on - off for on, off in pairs)  # of starts that follow each other
    met = verdict("Corral / QEMU microvm", medians["Corral"] / medians["QEMU microvm"], 0.5)
    return verdict("what the jail costs", jail * 1e3, MOST_JAIL, "ms") and met


if __name__ == "__main__":
    sys.exit(not main())
