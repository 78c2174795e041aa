"""What instances cost while they are there, one and many: memory, and disk when each has written something."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from corral.compare import patience, programs
from corral.compare.contenders.base import Contender, Job, Launch, is_hello
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.compare.processes import Measured

SETTLE = 0.2  # seconds; what starting needed for a moment is given back
IMAGE, WRITTEN = 64, 4  # MiB: of the image that all share, and by each instance


class Memory(Measure):
    """Proportional set sizes: a page that k processes map counts 1/k for each. A guest's memory is included."""

    def __init__(self, count: int) -> None:
        self.name = f"memory-{count}"
        self.title = f"memory of {count} instance{'s' * (count > 1)} at rest"
        self._count = count

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        job = Job(programs.binary("hello"), ("stay",))
        with at_rest(contender, job, self._count, place) as instances:
            together = {pid for process, _ in instances for pid in contender.processes(process)}
            total = sum(proportional(pid) for pid in together) / (1 << 20)
        return _amounts(total, self._count)


class DiskHeld(Measure):
    """Each writes 4 MiB to what is its own; the image, which all share, is not counted."""

    def __init__(self, count: int) -> None:
        self.name = f"disk-{count}"
        self.title = f"disk of {count} from one image, each after writing {WRITTEN} MiB"
        self._count = count

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        base = place.folder / "base"
        if not base.exists():
            base.write_bytes(os.urandom(1 << 20) * IMAGE)
        before = base.stat()
        job = Job(programs.binary("hello"), ("{private}", str(WRITTEN)), base=base)
        with at_rest(contender, job, self._count, place) as instances:
            total = sum(
                sum(map(occupied, launch.layers)) + sum(map(unnamed, contender.processes(process)))
                for process, launch in instances
            ) / (1 << 20)
        if base.stat().st_mtime_ns != before.st_mtime_ns:
            raise RuntimeError(f"{contender.title} wrote to the image that all share")
        return _amounts(total, self._count)


def _amounts(total: float, count: int) -> Metrics:
    each = {"each": (total / count, "MiB")}
    return {"all": (total, "MiB"), **each} if count > 1 else each


@contextmanager
def at_rest(contender: Contender, job: Job, count: int, place: Cpus) -> Iterator[list[tuple[Measured, Launch]]]:
    """So many instances, each of which has said its line."""
    with ExitStack() as stack:
        instances = []
        for _ in range(count):
            launch = contender.launch(job)
            instances.append((stack.enter_context(contender.running(launch, place.all)), launch))
        for process, _ in instances:
            process.until(is_hello, contender.patience() + patience.scaled(count * 2))
        time.sleep(SETTLE)
        yield instances


def proportional(pid: int) -> int:
    """Bytes of memory of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def occupied(path: Path) -> int:
    """Bytes on disk of all files below a folder."""
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def unnamed(pid: int) -> int:
    """Bytes on disk of the files without a name that a process has open to write: a snapshot's layer."""
    total = 0
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0
    for link in links:
        try:
            status, mode = os.stat(link), os.lstat(link).st_mode
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and mode & stat.S_IWUSR:
            total += status.st_blocks * 512
    return total
