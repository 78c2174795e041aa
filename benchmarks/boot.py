"""boot: from process start to the first line of Corral's init.

On hardware KVM against QEMU microvm, in turns, with the same kernel, initramfs, memory and command line. On a
pagetable KVM, where QEMU boots no Linux, Corral alone; and the comparison in a nested host, where
`python -m benchmarks.boot COMMANDS` does it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import partial

from benchmarks import installed, nested
from benchmarks.measure import Samples, interleaved, report, verdict
from corral.compare.contenders.qemu import COMMON, PROGRAM
from corral.guests import initramfs, kernel, parameters
from corral.kvm.system import Kind, host_kind

ROUNDS = 7
MEMORY = "128"  # MiB
MARK = b"corral: init"
LIMIT = 120.0  # seconds


def until(command: list[str], mark: bytes = MARK, limit: float = LIMIT) -> float:
    """Seconds from process start until `mark` arrives, `limit` at most. The process is ended then."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        bufsize=0,
        env=installed.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(limit, process.kill)
    watchdog.start()
    try:
        received = b""
        while mark not in received:
            data = process.stdout.read(65536)
            if not data:
                raise RuntimeError(f"{command[0]} ended before {mark!r}; the last it said: {received[-300:]!r}")
            received += data
        return time.perf_counter() - start
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def commands() -> dict[str, list[str]]:
    """By contender. Makes what they need: a nested host sees the cache of this one, and cannot add to it."""
    image, initrd = kernel.get("small").path, initramfs.path()
    corral = [installed.corral(), "boot", image, "--initrd", initrd, "--memory", f"{MEMORY}M"]
    qemu = [PROGRAM, "-M", "microvm", *COMMON, "-m", MEMORY, "-serial", "stdio", "-kernel", image, "-initrd", initrd]
    # What Corral gives its own kernel by itself.
    qemu += ["-append", parameters.for_kind(Kind.HARDWARE, stock=False)]
    return {"Corral": corral, "QEMU microvm": qemu}


def against_qemu(contenders: dict[str, list[str]]) -> Samples:
    """On hardware KVM."""
    return interleaved({name: partial(until, command) for name, command in contenders.items()}, ROUNDS)


def compared(samples: Samples, place: str) -> bool:
    medians = report(f"boot {place}, process start to init", samples, "QEMU microvm", "s")
    return verdict("Corral / QEMU microvm", medians["Corral"] / medians["QEMU microvm"], 0.7)


def main() -> bool:
    contenders = commands()
    if host_kind() is Kind.HARDWARE:
        return compared(against_qemu(contenders), "here")
    samples = interleaved({"Corral": lambda: until(contenders["Corral"])}, ROUNDS, warm_up=0)
    medians = report("boot on this machine's pagetable KVM, process start to init", samples, "Corral", "s")
    met = verdict("Corral", medians["Corral"], 12, "s")
    return compared(nested.run("boot", contenders), "in the nested host") and met


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(against_qemu(json.loads(sys.argv[1]))))
    else:
        sys.exit(not main())
