"""startup: from process start over a guest's first and last instruction to process end, against QEMU microvm; and what
the jail adds to it."""

from __future__ import annotations

import statistics
import sys

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from tests.support.tiny_guests import tiny_guest

ROUNDS = 41
MEMORY = "128"  # MiB
WITHOUT = "Corral, --jail off"
MOST_JAIL = 1.0  # ms


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
    pairs = zip(samples["Corral"], samples[WITHOUT], strict=True)
    jail = statistics.median(on - off for on, off in pairs)  # of starts that follow each other
    met = verdict("Corral / QEMU microvm", medians["Corral"] / medians["QEMU microvm"], 0.5)
    return verdict("what the jail costs", jail * 1e3, MOST_JAIL, "ms") and met


if __name__ == "__main__":
    sys.exit(not main())
