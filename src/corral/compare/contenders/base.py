"""What a contender is: something that runs a static binary and shows what it prints."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from corral.compare import patience
from corral.compare.processes import Decode, Failed, Measured, descendants, plain

PLACEMENTS = {
    "flat": "knows no nodes, and its vCPUs run anywhere",
    "pinned": "knows no nodes, each vCPU has a CPU",
    "nodes": "has the host's nodes, memory bound to them; vCPUs run anywhere",
    "placed": "has the host's nodes, memory bound to them, a CPU for each vCPU",
}


class Unsuitable(Exception):
    """This contender cannot do this job on this host; the text is the reason, one line for the report."""


@dataclass(frozen=True)
class Job:
    """A program to run. In its arguments `{scratch}` stands for the name under which it finds the file `scratch`, which
    is a disk of its own, and `{private}` for a place where it may write what no other sees: a layer of its own over
    what all instances share, which for a virtual machine is the disk `base`. `root`: a folder that has the program at
    its own path, with all that it needs; without, it is a static binary that needs nothing. `memory`: bytes that a
    guest must have for it; `cpus`: its vCPUs. `placement` of these on the host: one of PLACEMENTS, "" for whatever a
    VMM does by itself."""

    program: Path
    arguments: tuple[str, ...] = ()
    scratch: Path | None = None
    base: Path | None = None
    root: Path | None = None
    memory: int = 0
    cpus: int = 1
    placement: str = ""

    @property
    def inside(self) -> str:
        """The program's path in whatever it runs in."""
        return str(self.program) if self.root else f"/bin/{self.program.name}"

    @property
    def private(self) -> bool:
        return "{private}" in self.arguments

    def words(self, scratch: str, private: str) -> list[str]:
        names = {"{scratch}": scratch, "{private}": private}
        return [names.get(word, word) for word in self.arguments]


@dataclass(frozen=True)
class Launch:
    """What has to be run. `fatal`: see Process. `undo`: commands that end what is left, run in any case.

    `decode` finds the program's exit status. `layers`: folders with what is this instance's own.
    """

    argv: list[str]
    environment: dict[str, str] | None = None
    fatal: bytes = b""
    decode: Decode = plain
    undo: tuple[list[str], ...] = ()
    layers: tuple[Path, ...] = ()


@dataclass
class Kit:
    """What contenders share: a folder that goes at the end, guests' memory (bytes), guests' images by program, and the
    commands that are still to be run so that nothing is left."""

    folder: Path
    memory: int
    images: dict[Path, Path] = field(default_factory=dict)
    pending: list[list[str]] = field(default_factory=list)
    count: int = 0

    def tidy_up(self, commands: Iterable[list[str]]) -> None:
        """Runs those of `pending`; one that is interrupted stays there."""
        for command in list(commands):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            self.pending.remove(command)

    def fresh(self, prefix: str) -> Path:
        """A new, empty folder."""
        self.count += 1
        path = self.folder / f"{prefix}{self.count}"
        path.mkdir()
        return path


class Contender(ABC):
    """Subclasses have a name for the command line, a title for people, and say how a job is run."""

    name: ClassVar[str]
    title: ClassVar[str]
    is_vm: ClassVar[bool] = False
    marker: ClassVar[bytes] = b""
    """A line after which the program's output begins; what is before it is a kernel's. b"": at once."""
    limit: ClassVar[float] = 30.0
    """Seconds for a start on a quiet machine, at most."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    def patience(self) -> float:
        """Seconds that a start may take here and now."""
        return patience.scaled(self.limit)

    def missing(self) -> str:
        """Why this contender cannot run here, as far as that can be told without running it; "" if it may."""
        return ""

    @abstractmethod
    def launch(self, job: Job) -> Launch:
        """Prepares a start and says how it is made; this part is not timed. Raises Unsuitable."""

    def files(self, job: Job) -> list[Path]:
        """Files and folders that a start reads: a cold start is one with them out of the page cache."""
        return [job.program]

    def version(self) -> str:
        return ""

    def remove(self) -> None:
        """Takes away what this contender has put elsewhere than into the kit's folder."""
        return

    def processes(self, process: Measured) -> list[int]:
        """All that run on behalf of this instance."""
        return [process.pid, *descendants(process.pid)]

    @contextmanager
    def started(self, job: Job, cpus: Iterable[int] = ()) -> Iterator[Measured]:
        """Runs a job; whatever is left of it has ended afterwards."""
        launch = self.launch(job)
        with self.running(launch, cpus) as process:
            yield process

    @contextmanager
    def running(self, launch: Launch, cpus: Iterable[int] = ()) -> Iterator[Measured]:
        self.kit.pending += launch.undo
        try:
            with Measured(launch.argv, cpus, launch.environment, launch.fatal, launch.decode) as process:
                yield process
        finally:
            self.kit.tidy_up(launch.undo)

    def said(self, process: Measured) -> list[bytes]:
        """The lines of the program itself."""
        lines = [line for _, line in process.lines]
        if not self.marker:
            return lines
        at = next((at for at, line in enumerate(lines) if line.startswith(self.marker)), len(lines))
        return lines[at + 1 :]


def is_hello(line: bytes) -> bool:
    """Whether it is the line of the program hello."""
    return line.rstrip(b"\r\n") == b"hello 1 line"


def first_line(command: list[str]) -> str:
    """What a program says first, "" if it does not; for its version."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.splitlines()), "")


def package_missing(program: str, package: str) -> str:
    """The reason that a program is not there, with the cure; "" when it is."""
    if shutil.which(program):
        return ""
    return f"{program} is not installed: apt-get install {package}"


def clean_environment() -> dict[str, str]:
    """This process's, without what a developer may have set to keep Python from caching bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


__all__ = [
    "PLACEMENTS",
    "Contender",
    "Failed",
    "Job",
    "Kit",
    "Launch",
    "Unsuitable",
    "clean_environment",
    "first_line",
    "is_hello",
    "package_missing",
]
