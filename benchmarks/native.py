"""native: what kernel work costs in a guest whose kernel runs natively on a pagetable KVM, against the same guest
interpreted, and against the host.

The programs are those of `corral compare`. Each round runs one on the host and in both guests, which stay up. What they
measure is made of exits, whose cost is the host CPU's: that of one, in a bare loop in C, is measured beside them, and
each figure is told in exits too. Then whole starts: `corral boot -- true`, native and interpreted, with one vCPU and
two, each a boot of the kernel; and one that goes on from the boot cache, as it does without --fresh.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

from benchmarks import exits, installed
from benchmarks.measure import Samples, interleaved, report, seconds, verdict
from corral.arch.x86_64 import layout
from corral.compare import metric_lines, programs
from corral.guests import kernel
from corral.kvm.system import Kind, host_kind
from tests.support.guest_tools import initramfs_with
from tests.support.tiny_guests import tiny_guest

ROUNDS, STARTS = 5, 9
LENGTH = "0.3"  # seconds that a program measures for
# Of each program one metric, and what it may take natively, in microseconds.
FIGURES = {"syscall": ("getppid", 7.0), "pagefault": ("first-touch", 30.0), "forkexec": ("exec", 3000.0)}
UNITS = {"ns": 1e-9, "us": 1e-6}
OVER = ("over", 1.0, "us")
NATIVE, INTERPRETED, HOST, EXIT = "guest, native", "guest, interpreted", "host", "one exit, bare C loop"
INTERPRET = ["--append", "nonative"]
START, TWO_CPUS, START_INTERPRETED, CACHED = "native", "native, 2 vCPUs", "interpreted", "from the boot cache"


class Guest:
    """`corral boot` with a shell on pipes."""

    def __init__(self, binaries: list[str], options: list[str]) -> None:
        command = [
            installed.corral(),
            "boot",
            "--fresh",
            kernel.get("small").path,
            "--initrd",
            initramfs_with(binaries),
            *options,
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self, name: str) -> float:
        """Seconds that one operation takes, by the program itself."""
        assert self._process.stdin
        assert self._process.stdout
        print(f"{name} {LENGTH}; echo {' '.join(map(str, OVER))}", file=self._process.stdin, flush=True)
        lines: list[bytes] = []
        for line in self._process.stdout:
            if metric_lines.parse(line.encode()) == OVER:
                return figure(name, lines)
            lines.append(line.encode())
        raise RuntimeError(f"the guest ended instead of running {name}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def here(name: str) -> float:
    done = subprocess.run([programs.binary(name), LENGTH], capture_output=True, check=True)
    return figure(name, done.stdout.splitlines())


def figure(name: str, lines: list[bytes]) -> float:
    """In seconds, from what the program printed."""
    value, unit = metric_lines.parse_all(lines)[FIGURES[name][0]]
    return value * UNITS[unit]


def one_exit() -> Callable[[], float]:
    """Measures the seconds of CPU time that a port write takes, there and back, in a loop that does nothing else."""
    guest = str(tiny_guest("port_writes", COUNT=exits.COUNT, PORT=layout.POST_PORTS[0]))
    return partial(exits.floor, exits.floor_program(), exits.text_of(guest))


def costs() -> bool:
    floor = one_exit()
    binaries = [str(programs.binary(name)) for name in FIGURES]
    guests = {NATIVE: Guest(binaries, []), INTERPRETED: Guest(binaries, INTERPRET)}
    met = True
    try:
        for name, (metric, limit) in FIGURES.items():
            contenders: dict[str, Callable[[], float]] = {HOST: partial(here, name), EXIT: floor}
            contenders.update((place, partial(running.run, name)) for place, running in guests.items())
            medians = report(f"{metric}, one", interleaved(contenders, ROUNDS), HOST, "us")
            print(f"  {metric}, native: {medians[NATIVE] / medians[EXIT]:.1f} exits of this CPU")
            met &= verdict(f"{metric}, native", medians[NATIVE] * 1e6, limit, "us")
    finally:
        for running in guests.values():
            running.close()
    return met


def starts() -> bool:
    corral = [installed.corral(), "boot"]
    boots = {START: [], TWO_CPUS: ["--cpus", "2"], START_INTERPRETED: INTERPRET}
    commands = {name: ["--fresh", *options] for name, options in boots.items()} | {CACHED: []}
    samples: Samples = interleaved(
        {name: partial(seconds, [*corral, *options, "--", "true"]) for name, options in commands.items()}, STARTS
    )
    medians = report("corral boot -- true, whole process", samples, START)
    met = verdict("corral boot --fresh -- true", medians[START], 0.20, "s")
    return verdict("two vCPUs / one", medians[TWO_CPUS] / medians[START], 1.15) and met


def main() -> bool:
    if host_kind() is Kind.HARDWARE:
        print("\nnative: this KVM has hardware virtualization; every guest runs natively on it")
        return True
    met = costs()
    return starts() and met


if __name__ == "__main__":
    sys.exit(not main())
