"""compute: user code in a guest against the same program on the host, on the same CPU, pair by pair.

The guest has two vCPUs, pinned; the program runs on the second, which `nohz_full=1` frees of ticks while it runs one
program, and the host's runs on the CPU that this vCPU is pinned to, while the guest waits.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import installed, work
from benchmarks.measure import report, verdict
from corral.guests import kernel
from corral.kvm.system import Kind, host_kind
from tests.support.guest_tools import initramfs_with

ROUNDS = 12
SECONDS = "1"
MODES = ["linpack", "chase", "stream"]
LIMIT = 0.97
TICKLESS = "nohz_full=1 rcu_nocbs=1"
HOST, GUEST, TICKING = "native", "Corral, tickless", "Corral, with ticks"


class Guest:
    """`corral boot` with a shell on pipes."""

    def __init__(self, cpus: list[int], parameters: str) -> None:
        pin = ",".join(f"{vcpu}={cpu}" for vcpu, cpu in enumerate(cpus))
        image = kernel.get("small-smp" if host_kind() is Kind.PAGETABLE else "stock").path
        command = [installed.corral(), "boot", image, "--cpus", "2", "--pin", pin, "--memory", "512M"]
        command += ["--initrd", initramfs_with([work.program()]), "--append", parameters]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def rate(self, mode: str) -> float:
        assert self._process.stdin
        assert self._process.stdout
        print(f"work {mode} {SECONDS} 1", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            found = work.rate(line)
            if found is not None:
                return found
        raise RuntimeError("the guest ended")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def guest(cpus: list[int], parameters: str) -> Iterator[Guest]:
    running = Guest(cpus, parameters)
    try:
        yield running
    finally:
        running.close()


def native(mode: str, cpu: int) -> float:
    done = subprocess.run([work.program(), mode, SECONDS, str(cpu)], capture_output=True, text=True, check=True)
    found = work.rate(done.stdout)
    assert found is not None
    return found


def main() -> bool:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print("\ncompute needs two CPUs: one has the guest's ticks and the VMM's threads")
        return False
    met = True
    for mode in MODES:
        pairs: dict[str, list[tuple[float, float]]] = {GUEST: [], TICKING: []}
        for name, parameters in ((GUEST, TICKLESS), (TICKING, "")):
            with guest(cpus, parameters) as running:
                running.rate(mode)  # warm
                for _ in range(ROUNDS):
                    pairs[name].append((native(mode, cpus[1]), running.rate(mode)))
        ratios = {name: statistics.median(inside / outside for outside, inside in pairs[name]) for name in pairs}
        samples = {HOST: [1 / outside for outside, _ in pairs[GUEST]]}
        samples |= {name: [1 / inside for _, inside in pairs[name]] for name in pairs}
        per = {"linpack": 1e9, "chase": 1e6, "stream": 1e9}[mode]
        report(
            f"{mode}: time of {per:.0e}", {name: [v * per for v in values] for name, values in samples.items()}, HOST
        )
        print(f"  pair by pair: tickless {ratios[GUEST]:.3f}, with ticks {ratios[TICKING]:.3f} of native")
        met &= verdict(f"{mode}: native / guest", 1 / ratios[GUEST], 1 / LIMIT)
    return met


if __name__ == "__main__":
    sys.exit(not main())
