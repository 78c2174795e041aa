"""smp: from process start to user space with four vCPUs, against one, and against QEMU microvm with four.

For the small kernel (an MP table) and the distribution's cloud kernel (ACPI). On a pagetable KVM, where QEMU boots no
Linux, Corral with the small kernel alone; and everything in a nested host, where `python -m benchmarks.smp COMMANDS`
does it.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from benchmarks import installed, nested
from benchmarks.boot import until
from benchmarks.measure import Samples, interleaved, report, verdict
from corral.guests import default, initramfs, kernel, parameters
from corral.kvm.system import Kind, host_kind

ROUNDS = 7
CPUS = 4
MEMORY = "256"  # MiB
ONE, MANY, PEER = "Corral, 1 vCPU", f"Corral, {CPUS} vCPUs", f"QEMU microvm, {CPUS} vCPUs"

Commands = dict[str, list[str]]  # by contender


def commands() -> dict[str, Commands]:
    """By kernel. Makes what they need: a nested host sees the cache of this one, and cannot add to it."""
    small, cloud = kernel.get("small").path, default.choose(Kind.HARDWARE, CPUS).get(lambda text: None).path
    return {
        "the small kernel": _contenders(small, parameters.for_kind(Kind.HARDWARE, stock=False)),
        "the cloud kernel": _contenders(cloud, parameters.for_kind(Kind.HARDWARE, stock=True, acpi=True)),
    }


def _contenders(image: str, line: str) -> Commands:
    initrd = initramfs.path()
    corral = [installed.corral(), "boot", image, "--initrd", initrd, "--memory", f"{MEMORY}M", "--cpus"]
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-cpu", "host", "-m", MEMORY, "-smp", str(CPUS)]
    qemu += ["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio"]
    qemu += ["-kernel", image, "-initrd", initrd, "-append", line]
    return {ONE: [*corral, "1"], MANY: [*corral, str(CPUS)], PEER: qemu}


def measured(contenders: Commands) -> Samples:
    return interleaved({name: partial(until, command) for name, command in contenders.items()}, ROUNDS)


def compared(what: str, samples: Samples) -> bool:
    medians = report(f"boot with {what}, process start to init", samples, ONE, "s")
    met = verdict(f"{CPUS} vCPUs / 1", medians[MANY] / medians[ONE], 1.15)
    return PEER not in medians or (verdict("Corral / QEMU microvm", medians[MANY] / medians[PEER], 0.8) and met)


def main() -> bool:
    kernels = commands()
    if host_kind() is Kind.HARDWARE:
        met = [compared(what, measured(contenders)) for what, contenders in kernels.items()]
    else:
        alone = {name: command for name, command in kernels["the small kernel"].items() if name != PEER}
        compared("the small kernel on this machine's pagetable KVM", measured(alone))
        met = [compared(f"{what}, nested host", nested.run("smp", contenders)) for what, contenders in kernels.items()]
    return all(met)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(json.loads(sys.argv[1]))))
    else:
        sys.exit(not main())
