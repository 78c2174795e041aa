"""From the command to the first line of the program, and to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from corral.compare import patience, programs
from corral.compare.contenders.base import Contender, Job, is_hello
from corral.compare.measures.base import Cpus, Measure, Metrics

END = 30.0  # seconds


class Start(Measure):
    """`cold`: what a start reads is thrown out of the page cache before, as far as nothing else has it mapped."""

    def __init__(self, cold: bool) -> None:
        self.name = "start-cold" if cold else "start"
        self.title = "start to first line, " + ("files not in the page cache" if cold else "warm")
        self._cold = cold

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        job = Job(programs.binary("hello"))
        launch = contender.launch(job)
        if self._cold:
            for path in contender.files(job):
                evict(path)
        with contender.running(launch, place.pinned) as process:
            line = process.until(is_hello, contender.patience())
            end = process.succeed(patience.scaled(END))
        begun = process.begun
        return {"first-line": ((line - begun) * 1e3, "ms"), "whole-life": ((end - begun) * 1e3, "ms")}


def evict(path: Path) -> None:
    """Takes a file, or all below a folder, out of the page cache. Pages that a process has mapped stay."""
    for file in _files(path):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.fdatasync(descriptor)  # what is not written yet cannot be thrown out
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (below for below in path.rglob("*") if below.is_file())
