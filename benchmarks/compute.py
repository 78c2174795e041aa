"""compute: user code in a guest against the same program on the host, on the same CPU, pair by pair.

The guest has two vCPUs, pinned; the program runs on the second, which `nohz_full=1` frees of ticks while it runs one
program, and the host's runs on the CPU that this vCPU is pinned to, while the guest waits.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import installed, work
from benchmarks.measure import report, verdict
from corral.guests import kernel
from corral.kvm.system import Kind, host_kind
from corral.observe import live
from tests.support.guest_tools import initramfs_with

ROUNDS = 16
SECONDS = "1"
IDLE, GLANCE, PATIENCE = 0.01, 0.3, 30.0  # of a CPU at most, for so many seconds: then the guest is idle
LIMIT = 0.97
TICKLESS = "nohz_full=1 rcu_nocbs=1"
HOST, GUEST, TICKING = "native", "Corral, tickless", "Corral, with ticks"


class Guest:
    """`corral boot` with a shell on pipes."""

    def __init__(self, cpus: list[int], parameters: str) -> None:
        pin = ",".join(f"{vcpu}={cpu}" for vcpu, cpu in enumerate(cpus))
        image = kernel.get("small" if host_kind() is Kind.PAGETABLE else "stock").path
        command = [installed.corral(), "boot", image, "--cpus", "2", "--pin", pin, "--memory", "512M"]
        command += ["--initrd", initramfs_with([work.program()]), "--append", parameters]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def rate(self) -> float:
        assert self._process.stdin
        assert self._process.stdout
        print(f"{work.NAME} {SECONDS} linpack 1", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            found = work.rate(line)
            if found is not None:
                return found
        raise RuntimeError("the guest ended")

    def wait_until_idle(self) -> None:
        """The kernel of a guest takes its time to clear a program away, where it is interpreted."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            before = self._ran()
            time.sleep(GLANCE)
            if self._ran() - before < IDLE * GLANCE:
                return
        raise RuntimeError("the guest does not come to rest")

    def _ran(self) -> float:
        """By the second vCPU, in seconds; the first has a timekeeper's ticks at all times."""
        mine = next(found for found in live.running() if found.pid == self._process.pid)
        return mine.vcpus[1].ran

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


def native(cpu: int) -> float:
    done = subprocess.run([work.program(), SECONDS, "linpack", str(cpu)], capture_output=True, text=True, check=True)
    found = work.rate(done.stdout)
    assert found is not None
    return found


def main() -> bool:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print("\ncompute needs two CPUs: one has the guest's ticks and the VMM's threads")
        return False
    pairs: dict[str, list[tuple[float, float]]] = {GUEST: [], TICKING: []}
    for name, parameters in ((GUEST, TICKLESS), (TICKING, "")):
        with guest(cpus, parameters) as running:
            running.rate()  # warm
            for _ in range(ROUNDS):
                running.wait_until_idle()
                pairs[name].append((native(cpus[1]), running.rate()))
    samples = {HOST: [1 / outside for name in pairs for outside, _ in pairs[name]]}
    samples |= {name: [1 / inside for _, inside in pairs[name]] for name in pairs}
    report("linpack: time of 1e9 operations", samples, HOST)
    ratios = {name: statistics.median(inside / outside for outside, inside in pairs[name]) for name in pairs}
    print(f"  pair by pair: tickless {ratios[GUEST]:.3f}, with ticks {ratios[TICKING]:.3f} of native")
    return verdict("native / tickless guest", 1 / ratios[GUEST], 1 / LIMIT)


if __name__ == "__main__":
    sys.exit(not main())
