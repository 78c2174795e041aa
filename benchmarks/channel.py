"""channel: what a command writes, to the end of a pipe, by the channel and by the serial line; and a start with it."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from corral.guests import kernel

SIZE = 100_000  # bytes by both
MUCH = 100_000_000  # by the channel alone
ROUNDS, STARTS = 5, 15
CHANNEL, SERIAL, MORE = "channel", "serial line (--tty)", f"channel, {MUCH // SIZE} times as much"
PIPES, TERMINAL = "corral boot -- true, pipes", "corral boot --tty -- true"


def written(size: int, *options: str) -> float:
    """Seconds from the first byte to the last."""
    command = [installed.corral(), "boot", kernel.get(kernel.SMALL).path, *options, "--"]
    command += [f"tr '\\0' x </dev/zero | head -c {size}"]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, bufsize=0)
    assert process.stdout
    received, first = 0, 0.0
    while data := process.stdout.read(1 << 20):
        received += data.count(b"x")
        first = first or time.perf_counter()
        last = time.perf_counter()
    if process.wait() or received < size:
        raise RuntimeError(f"{received} of {size} bytes arrived")
    return last - first


def main() -> bool:
    contenders = {
        CHANNEL: lambda: written(SIZE),
        SERIAL: lambda: written(SIZE, "--tty"),
        MORE: lambda: written(MUCH),
    }
    medians = report(f"channel: {SIZE // 1000} kB of a command's output", interleaved(contenders, ROUNDS), CHANNEL)
    print(f"  {MUCH / 1e6 / medians[MORE]:.0f} MB/s")
    corral = [installed.corral(), "boot"]
    starts = {
        PIPES: lambda: seconds([*corral, "--", "true"]),
        TERMINAL: lambda: seconds([*corral, "--tty", "--", "true"]),
    }
    whole = report("a whole start", interleaved(starts, STARTS), TERMINAL)
    return verdict("a start with pipes, of one with a terminal", whole[PIPES] / whole[TERMINAL], 1.05)


if __name__ == "__main__":
    sys.exit(not main())
