"""boot: from process start to the first line of Corral's init.

Absolute on this machine's KVM; and in a nested host, where QEMU microvm boots the same kernel, initramfs, memory and
command line in turns with Corral. `python -m benchmarks.boot inside` is what runs there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time

from benchmarks import installed
from benchmarks.measure import interleaved, report, verdict
from corral.guests import initramfs, kernel, parameters
from corral.kvm.system import Kind, host_kind

ROUNDS = 5
MEMORY = "128"
MARK = b"corral: init"
LIMIT = 120.0


def until_init(command: list[str]) -> float:
    """Seconds from process start until MARK arrives. The process is ended then."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=installed.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        received = b""
        while MARK not in received:
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                raise RuntimeError(f"{command[0]} ended before init; the last it said: {received[-300:]!r}")
            received += data
        return time.perf_counter() - start
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def corral_command(image: str) -> list[str]:
    return [installed.corral(), "boot", image, "--memory", f"{MEMORY}M"]


def qemu_command(image: str) -> list[str]:
    cmdline = parameters.for_kind(host_kind(), stock=True)
    command = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-cpu", "host", "-m", MEMORY, "-display", "none"]
    command += ["-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", image]
    return [*command, "-initrd", initramfs.path(), "-append", cmdline]


def inside() -> None:
    """In the nested host: prints the samples as JSON."""
    image = kernel.get("small").path
    contenders = {
        "Corral": lambda: until_init(corral_command(image)),
        "QEMU microvm": lambda: until_init(qemu_command(image)),
    }
    print(json.dumps(interleaved(contenders, ROUNDS)))


def nested() -> bool:
    from tests.nested.host import NestedHost

    kernel.get("small")
    initramfs.path()
    installed.corral()
    with NestedHost() as host:
        done = host.run([sys.executable, "-m", "benchmarks.boot", "inside"], timeout=900)
    if done.status:
        raise RuntimeError(f"in the nested host: {done.stderr.strip().splitlines()[-1:]}")
    samples = json.loads(done.stdout.splitlines()[-1])
    medians = report("boot in the nested host, process start to init", samples, "QEMU microvm", "s", 1)
    return verdict("Corral / QEMU microvm", medians["Corral"] / medians["QEMU microvm"], 0.7)


def here() -> bool:
    image = kernel.get("small").path
    seconds = [until_init([installed.corral(), "boot", image]) for _ in range(ROUNDS)]
    print(f"\nboot on this machine's KVM ({host_kind().value}), process start to init (s)")
    print("  Corral, small kernel  " + "  ".join(f"{value:.2f}" for value in seconds))
    if host_kind() is Kind.HARDWARE:
        return True
    return verdict("median", statistics.median(seconds), 12, "s")


def main() -> bool:
    met = here()
    return nested() and met


if __name__ == "__main__":
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        sys.exit(not main())
