"""startup: from process start over a guest's first and last instruction to process end, against QEMU microvm."""

from __future__ import annotations

import sys

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from tests.support.tiny_guests import tiny_guest

ROUNDS = 41
MEMORY = "128"  # MiB


def main() -> bool:
    guest = str(tiny_guest("reset"))
    corral = installed.corral()
    python = corral.removesuffix("corral") + "python"
    environment = installed.environment()
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m", MEMORY, "-display", "none", "-nodefaults"]
    qemu += ["-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", guest]
    contenders = {
        "Corral": lambda: seconds([corral, "boot", guest, "--memory", f"{MEMORY}M"], environment),
        "QEMU microvm": lambda: seconds(qemu),
        "python -c pass, the floor": lambda: seconds([python, "-c", "pass"], environment),
    }
    medians = report(
        "startup: a guest that resets at once, whole process", interleaved(contenders, ROUNDS), "QEMU microvm"
    )
    return verdict("Corral / QEMU microvm", medians["Corral"] / medians["QEMU microvm"], 0.5)


if __name__ == "__main__":
    sys.exit(not main())
