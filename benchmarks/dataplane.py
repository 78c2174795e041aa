"""dataplane: virtio-blk's queues and engines with no machine around them, driver and device on one core.

The engine that does nothing shows what a request costs us; 4 KiB reads from the page cache are compared with a loop
over liburing that does nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import interleaved, report, verdict
from corral.errors import HostError
from corral.guests import cache
from csrc import build_ffi

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 9
IMAGE_SIZE = 128 << 20
NULL_REQUESTS, READS = 2_000_000, 100_000
MOST_NS = 1e9 / 1.5e6  # 1.5 million requests a second
MOST_RATIO = 1 / 0.85


def program() -> str:
    """dataplane.c, compiled together with the data plane itself."""
    target = cache.folder("bench", "dataplane")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    parts = sorted(ROOT.glob("csrc/blk/*.c"))
    parts += [
        next(ROOT.glob(f"csrc/*/{name}"))
        for name in (
            "virtq.c",
            "virtio_irq.c",
            "queue_worker.c",
            "limit.c",
            "thread.c",
            "ram_file.c",
        )
    ]
    sources = [str(path) for path in (Path(__file__).with_name("dataplane.c"), *parts)]
    uring = build_ffi.find_uring(["gcc"])
    if uring is None:
        raise HostError("no liburing; install it: apt-get install liburing-dev")
    flags = ["-O2", "-std=gnu11", "-pthread", "-DCORRAL_HAVE_URING", *build_ffi.INCLUDES]
    subprocess.run(["gcc", *flags, *sources, "-o", target, *uring], check=True)
    return target


def image() -> str:
    path = cache.folder("bench", "dataplane.img")
    if not os.path.exists(path) or os.path.getsize(path) != IMAGE_SIZE:
        with open(path, "wb") as file:
            for _ in range(IMAGE_SIZE >> 20):
                file.write(os.urandom(1 << 20))
    with open(path, "rb") as file:  # into the page cache
        while file.read(1 << 20):
            pass
    return path


def run(command: list[str]) -> float:
    """Seconds a request, on the last of this process's CPUs."""
    cpu = max(os.sched_getaffinity(0))
    result = subprocess.run(
        ["taskset", "-c", str(cpu), *command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return float(result.stdout) / 1e9


def main() -> bool:
    binary, file = program(), image()
    nothing = [binary, "null", "256", str(NULL_REQUESTS)]
    samples = interleaved({"driver, queue, nothing behind it": lambda: run(nothing)}, ROUNDS)
    medians = report("dataplane: a request that does nothing, depth 256", samples, next(iter(samples)), "us")
    met = [verdict("a request", next(iter(medians.values())) * 1e9, MOST_NS, "ns")]
    for depth in (32, 256):
        contenders = {
            name: lambda what=what, depth=depth: run([binary, what, str(depth), str(READS), file])  # type: ignore[misc]
            for name, what in {"liburing loop": "floor", "io_uring": "uring", "threads": "threads"}.items()
        }
        title = f"dataplane: 4 KiB reads from the page cache, depth {depth}"
        medians = report(title, interleaved(contenders, ROUNDS), "liburing loop", "us")
        ratio = medians["io_uring"] / medians["liburing loop"]
        if depth == 256:
            met.append(verdict("io_uring against the loop", ratio, MOST_RATIO))
    return all(met)


if __name__ == "__main__":
    sys.exit(not main())
