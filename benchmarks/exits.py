"""exits: one port write, finished in C and finished in Python, against a bare C loop written for the purpose."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.measure import interleaved, report, verdict
from corral.arch.x86_64 import layout
from corral.config import MachineConfig
from corral.console import Console
from corral.exits import Cause
from corral.guests import cache
from corral.machine import Machine
from tests.support.tiny_guests import tiny_guest

COUNT = 20_000
ROUNDS = 9


class Counter:
    """A device in Python that does nothing but notice the first and the last write."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.count = 0

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.last = time.perf_counter()
        self.count += 1
        if self.count == 1:
            self.first = self.last


def in_c(guest: str) -> float:
    """Seconds a write to the POST port, which C drops. The guest's few other instructions are in the floor too."""
    config = MachineConfig(kernel=guest, memory=16 << 20)
    counter = Counter()
    with Machine(config) as machine:
        # The guest's own start and end are marked by writes that Python sees; COUNT writes lie between.
        machine.ports.claim(MARK_PORT, MARK_PORT, counter)
        assert machine.run(Console(), timeout=60).cause is Cause.RESET
    return (counter.last - counter.first) / COUNT


def in_python(guest: str) -> float:
    counter = Counter()
    with Machine(MachineConfig(kernel=guest, memory=16 << 20)) as machine:
        machine.ports.claim(PYTHON_PORT, PYTHON_PORT, counter)
        assert machine.run(Console(), timeout=60).cause is Cause.RESET
    assert counter.count == COUNT
    return (counter.last - counter.first) / (COUNT - 1)


MARK_PORT = 0x5678
PYTHON_PORT = 0x5679


def floor_program() -> str:
    target = cache.folder("bench", "exits_floor")
    source = __file__.replace("exits.py", "exits_floor.c")
    cache_folder = cache.folder("bench")
    subprocess.run(["mkdir", "-p", cache_folder], check=True)
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", source, "-o", target], check=True)
    return target


def text_of(guest: str) -> str:
    output = f"{guest}.text"
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.text", guest, output], check=True)
    return output


def main() -> bool:
    floor, post = floor_program(), layout.POST_PORTS[0]
    text = text_of(str(tiny_guest("port_writes", COUNT=COUNT, PORT=post)))
    marked = str(tiny_guest("marked_port_writes", COUNT=COUNT, PORT=post, MARK=MARK_PORT))
    python = str(tiny_guest("port_writes", COUNT=COUNT, PORT=PYTHON_PORT))
    contenders = {
        "bare C loop, the floor": lambda: float(subprocess.check_output([floor, text])) / 1e9,
        "Corral, finished in C": lambda: in_c(marked),
        "Corral, finished in Python": lambda: in_python(python),
    }
    medians = report(
        f"exits: a port write, there and back, {COUNT} in a row",
        interleaved(contenders, ROUNDS),
        "bare C loop, the floor",
        "us",
        1e6,
    )
    bare = medians["bare C loop, the floor"]
    met = verdict("finished in C / bare C loop", medians["Corral, finished in C"] / bare, 1.05)
    return (
        verdict("finished in Python - bare C loop", (medians["Corral, finished in Python"] - bare) * 1e6, 5, "us")
        and met
    )


if __name__ == "__main__":
    sys.exit(not main())
