"""exits: one port write, finished in C (also traced, and seen by a hook) and in Python, against a bare C loop written
for the purpose. As CPU time of the vCPU's thread, which waits for nothing meanwhile: what else runs does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks.measure import interleaved, report, verdict
from corral.arch.x86_64 import layout
from corral.backends.console import Console
from corral.config import MachineConfig
from corral.core.exits import Cause
from corral.core.hooks import EVERY_REASON, Hook
from corral.guests import cache
from corral.machine import Machine
from corral.observe.exit_trace import ExitTrace
from tests.support.tiny_guests import tiny_guest

COUNT = 5_000  # exits a sample: few, so that many samples fit between what else the machine does
ROUNDS = 41
MARK_PORT, PYTHON_PORT = 0x5678, 0x5679  # claimed by a Counter


class Counter:
    """A device in Python that does nothing but notice the first and the last write."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.count = 0

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.last = time.thread_time()
        self.count += 1
        if self.count == 1:
            self.first = self.last


class Idle(Hook):
    """Sees every exit, and does nothing about it."""

    reasons = EVERY_REASON


def through_corral(guest: str, port: int, traced: bool = False, hooked: bool = False) -> Counter:
    """Runs a guest to its end; the Counter at `port` tells what it saw."""
    counter = Counter()
    with Machine(MachineConfig(kernel=guest, memory=16 << 20)) as machine:
        machine.ports.claim(port, port, counter)
        if hooked:
            machine.hooks.attach(Idle())
        with ExitTrace(machine) if traced else nullcontext() as trace:
            assert machine.run(Console(), timeout=60).cause is Cause.RESET
            assert not trace or (not trace.lost and sum(1 for _ in trace) >= COUNT)
    return counter


def in_c(guest: str, traced: bool = False, hooked: bool = False) -> float:
    """Seconds a write to the POST port, which C drops. Python sees a write before the first and one after the last."""
    counter = through_corral(guest, MARK_PORT, traced, hooked)
    assert counter.count == 2
    return (counter.last - counter.first) / COUNT


def in_python(guest: str) -> float:
    counter = through_corral(guest, PYTHON_PORT)
    assert counter.count == COUNT
    return (counter.last - counter.first) / (COUNT - 1)


def floor_program() -> str:
    """exits_floor.c, compiled; it takes the raw code of a guest and prints nanoseconds an exit."""
    target = cache.folder("bench", "exits_floor")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    source = Path(__file__).with_name("exits_floor.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", str(source), "-o", target], check=True)
    return target


def text_of(guest: str) -> str:
    """The raw code of a tiny guest."""
    output = f"{guest}.text"
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.text", guest, output], check=True)
    return output


def floor(program: str, text: str) -> float:
    """Seconds an exit in the bare loop."""
    return float(subprocess.check_output([program, text])) / 1e9


def main() -> bool:
    program, post = floor_program(), layout.POST_PORTS[0]
    text = text_of(str(tiny_guest("port_writes", COUNT=COUNT, PORT=post)))
    marked = str(tiny_guest("marked_port_writes", COUNT=COUNT, PORT=post, MARK=MARK_PORT))
    python = str(tiny_guest("port_writes", COUNT=COUNT, PORT=PYTHON_PORT))
    contenders = {
        "bare C loop, the floor": lambda: floor(program, text),
        "Corral, finished in C": lambda: in_c(marked),
        "Corral, finished in C, traced": lambda: in_c(marked, traced=True),
        "Corral, finished in C, hooked": lambda: in_c(marked, hooked=True),
        "Corral, finished in Python": lambda: in_python(python),
    }
    title = f"exits: a port write, there and back, {COUNT} in a row"
    samples = interleaved(contenders, ROUNDS)
    bare, c, traced, hooked, python_too = report(title, samples, "bare C loop, the floor", "us").values()
    met = verdict("finished in C / bare C loop", c / bare, 1.05)
    met &= verdict("traced - not traced", (traced - c) * 1e9, 150, "ns")
    met &= verdict("hooked - not hooked", (hooked - c) * 1e6, 5, "us")
    return verdict("finished in Python - bare C loop", (python_too - bare) * 1e6, 5, "us") and met


if __name__ == "__main__":
    sys.exit(not main())
