"""store: a guest of 256 MiB through a store that is a folder: suspended, resumed, and stored once more.

Suspended: a guest that runs is saved and pushed. Resumed: pulled and restored, until its shell has answered a line; and
from this host's cache. How much of the store a second snapshot of that guest takes, against the first, and one of a
guest of the same image that was booted by itself. The same by size of chunks, which is why they are of 64 KiB.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import corral
from benchmarks.measure import interleaved, report, verdict
from corral import store
from corral.store import chunks
from corral.store.chunked import Chunked

MEMORY = "256M"
ROUNDS = 9
LIMIT = 60.0  # seconds
MOST, SHARE = 0.5, 0.10  # seconds of each; of the first snapshot's bytes
SUSPEND, RESUME, AGAIN = "suspend", "resume", "resume, from the cache"
SIZES = (4, 16, 32, 64, 128, 256, 1024)  # KiB


def ready(vm: corral.Machine) -> None:
    vm.console.expect("# ", timeout=LIMIT)


def ask(vm: corral.Machine) -> None:
    vm.console.send("ls -R /bin >/dev/null; echo $((6*7))\n")
    vm.console.expect("\n42", timeout=LIMIT)


def suspend(vm: corral.Machine, folder: Path, number: list[int]) -> float:
    """Each time into a store without chunks, by a file that is in memory."""
    number[0] += 1
    ask(vm)
    with tempfile.TemporaryDirectory(prefix="corral-store-", dir="/dev/shm") as between:
        start = time.perf_counter()
        vm.snapshot(f"{between}/guest")
        store.push(f"{between}/guest", str(folder / f"store-{number[0]}" / "guest"))
        return time.perf_counter() - start


def resume(folder: Path, url: str) -> float:
    start = time.perf_counter()
    store.pull(url, folder / "resumed")
    with corral.restore(folder / "resumed") as vm:
        ask(vm)
        return time.perf_counter() - start


def again(url: str) -> float:
    start = time.perf_counter()
    with corral.restore(url) as vm:
        ask(vm)
        return time.perf_counter() - start


def by_size(paths: list[Path]) -> None:
    """How many chunks of each size are new in these, one after the other, and what they take."""
    print(f"  {'chunks of':>10}  {'new chunks, and MiB packed: the first, its second, of another boot'}")
    for size in SIZES:
        seen, cells = set[bytes](), []
        for path in paths:
            number, packed = 0, 0
            with Chunked(str(path)) as source:
                ((fd, at, _),) = source.stretches[1].layers
                for begin in range(at, at + source.stretches[1].length, size << 10):
                    data = os.pread(fd, size << 10, begin)
                    key = hashlib.sha256(data).digest()
                    if key in seen or not data.strip(b"\0"):
                        continue
                    seen.add(key)
                    number += 1
                    packed += len(chunks.pack(data))
            cells.append(f"{number:5} {packed / (1 << 20):5.2f}")
        print(f"  {size:6} KiB  {'   '.join(cells)}")


def main() -> bool:
    with tempfile.TemporaryDirectory(prefix="corral-store-", dir="/var/tmp") as name:
        folder = Path(name)
        first, second, other = (folder / name for name in ("first", "second", "other"))
        with corral.linux(memory=MEMORY) as vm:
            ready(vm)
            vm.snapshot(str(first))
            vm.resume()
            ask(vm)
            vm.snapshot(str(second))
            vm.resume()
            url = str(folder / "kept" / "first")
            pushed = [store.push(first, url), store.push(second, str(folder / "kept" / "second"))]
            calls = {
                SUSPEND: partial(suspend, vm, folder, [0]),
                RESUME: partial(resume, folder, url),
                AGAIN: partial(again, f"file://{url}"),
            }
            medians = report(f"a guest of {MEMORY} through a store", interleaved(calls, ROUNDS), SUSPEND)
        with corral.linux(memory=MEMORY) as vm:
            ready(vm)
            vm.snapshot(str(other))
        pushed.append(store.push(other, str(folder / "kept" / "other")))
        for what, one in zip(("first", "second", "of another boot"), pushed, strict=True):
            print(f"  {what}: {one.sent} of {one.chunks} chunks sent, {one.bytes / (1 << 20):.2f} MiB")
        by_size([first, second, other])
    met = verdict(f"{SUSPEND}, of {MOST} s", medians[SUSPEND] / MOST, 1.0)
    met &= verdict(f"{RESUME}, of {MOST} s", medians[RESUME] / MOST, 1.0)
    met &= verdict("second snapshot / first", pushed[1].bytes / pushed[0].bytes, SHARE)
    return met & verdict("one of another boot / first", pushed[2].bytes / pushed[0].bytes, SHARE)


if __name__ == "__main__":
    sys.exit(not main())
