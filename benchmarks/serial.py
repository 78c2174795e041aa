"""serial: 1 MB of console output into a pipe, against a bare C loop that takes the same exits and drops the bytes."""

from __future__ import annotations

import os
import sys
import threading
import time

from benchmarks.exits import floor, floor_program, text_of
from benchmarks.measure import interleaved, report
from corral.arch.x86_64 import layout
from corral.backends.console import Console
from corral.config import MachineConfig
from corral.core.exits import Cause
from corral.machine import Machine
from tests.support.tiny_guests import tiny_guest

COUNT = 1_000_000
ROUNDS = 3


def through_corral(guest: str) -> float:
    """Seconds until a reader at the end of a pipe has every byte."""
    reader, writer = os.pipe()
    received = bytearray()

    def read() -> None:
        while data := os.read(reader, 65536):
            received.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    start = time.perf_counter()
    try:
        with Machine(MachineConfig(kernel=guest, memory=16 << 20)) as machine:
            outcome = machine.run(Console(writer), timeout=120)
            dropped = machine.serial.stats()["dropped"]
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
    end = time.perf_counter()
    if outcome.cause is not Cause.RESET or dropped or bytes(received) != b"x" * COUNT:
        raise RuntimeError(f"{len(received)} of {COUNT} bytes arrived, {dropped} dropped, {outcome}")
    return end - start


def main() -> bool:
    guest = str(tiny_guest("port_writes", COUNT=COUNT, PORT=layout.COM1_PORTS[0]))
    program, text = floor_program(), text_of(guest)
    contenders = {
        "bare C loop, which throws it away": lambda: floor(program, text) * COUNT,
        "Corral, to the end of a pipe": lambda: through_corral(guest),
    }
    title = f"serial: {COUNT / 1e6:g} MB of console output, a byte an exit, none lost"
    report(title, interleaved(contenders, ROUNDS, warm_up=0), "bare C loop, which throws it away", "s")
    return True


if __name__ == "__main__":
    sys.exit(not main())
