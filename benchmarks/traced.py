"""traced: a boot to init with each exit recorded and written to a file, against the same boot without.

On this host's KVM, and where that is a pagetable KVM in a nested host too, where `python -m benchmarks.traced COMMANDS`
does it.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from benchmarks import installed, nested
from benchmarks.boot import until
from benchmarks.measure import Samples, interleaved, report, verdict
from corral.guests import initramfs, kernel
from corral.kvm.system import Kind, host_kind

ROUNDS = 9
PLAIN, TRACED = "corral boot", "corral trace --out FILE.csv -- boot"


def commands() -> dict[str, list[str]]:
    image, initrd = kernel.get("small").path, initramfs.path()
    boot = ["boot", image, "--initrd", initrd, "--memory", "128M"]
    return {
        PLAIN: [installed.corral(), *boot],
        TRACED: [installed.corral(), "trace", "--out", "/tmp/corral-traced.csv", "--", *boot],
    }


def measured(contenders: dict[str, list[str]], rounds: int = ROUNDS) -> Samples:
    return interleaved({name: partial(until, command) for name, command in contenders.items()}, rounds)


def compared(samples: Samples, place: str) -> bool:
    medians = report(f"traced: boot {place}, process start to init", samples, PLAIN, "s")
    return verdict("traced / untraced", medians[TRACED] / medians[PLAIN], 1.1)


def main() -> bool:
    contenders = commands()
    if host_kind() is Kind.HARDWARE:
        return compared(measured(contenders), "here")
    met = compared(measured(contenders, 3), "on this machine's pagetable KVM")
    return compared(nested.run("traced", contenders), "in the nested host") and met


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(json.loads(sys.argv[1]))))
    else:
        sys.exit(not main())
