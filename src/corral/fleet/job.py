"""What a job's guests run: words of `corral` for each."""

from __future__ import annotations

import os

from corral.errors import ConfigError
from corral.startup.record import record

MOST = 1_000_000  # guests of a job
NUMBER = "{i}"


@record(frozen=True)
class GuestShare:
    """What one guest takes of a host's resources: CPUs, may be a fraction, and bytes of memory."""

    cpus: float
    memory: int


@record(frozen=True)
class FleetJob:
    """`count` guests. `words` are those of `corral`, like ("boot", "--restore", FILE, "--", "echo", "{i}"); {i} is the
    guest's number from 1. `cases`: words of each guest, in place of those. `seconds`: how long each may take. `files`:
    what has to be on a host, by path. Raises ConfigError."""

    words: tuple[str, ...]
    count: int
    share: GuestShare
    seconds: float | None = None
    files: tuple[str, ...] = ()
    cases: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise ConfigError(f"-n {self.count}: 1 to {MOST}")

    def words_of(self, number: int) -> list[str]:
        if self.cases:
            return list(self.cases[number - 1])
        return [word.replace(NUMBER, str(number)) for word in self.words]


def of_image(
    image: str,
    command: list[str],
    count: int,
    memory: int | None,
    cpus: int | None,
    share: float,
    seconds: float | None,
) -> FleetJob:
    """`image`: the file of a snapshot, or what `corral run` takes. `share`: CPUs that one guest takes of a host. Raises
    ConfigError, BootError, HostError for what this host can see is wrong."""
    limit = [] if seconds is None else ["--timeout", f"{seconds:g}"]
    tail = ["--", *command] if command else []
    if not os.path.isfile(image) or image.endswith(".erofs"):
        size = 1 << 30 if memory is None else memory
        words = ["run", *limit, "--memory", f"{size >> 20}", "--cpus", str(cpus or 1), _whole(image), *tail]
        return FleetJob(tuple(words), count, GuestShare(share, size), seconds)
    if memory is not None or cpus is not None:
        raise ConfigError("a snapshot has its memory and cpus; leave --memory and --cpus out")
    from corral.snapshot.resumed import Resumed

    path = os.path.realpath(image)
    with Resumed(path) as saved:
        size = saved.config(True, None).memory
    words = ["boot", *limit, "--restore", path, "--overlay", *tail]
    return FleetJob(tuple(words), count, GuestShare(share, size), seconds, (path,))


@record(frozen=True)
class Matrix:
    """Guests for each kernel with each system with each number of vCPUs. `images`: what `corral boot` takes, "" for
    Corral's small Linux; `kernels`: its --kernel, "" for the one it chooses."""

    kernels: tuple[str, ...]
    images: tuple[str, ...]
    cpus: tuple[int, ...]

    @property
    def cases(self) -> list[tuple[str, str, int]]:
        """Kernel, image, vCPUs of guest 1 and so on."""
        return [(kernel, image, cpus) for kernel in self.kernels for image in self.images for cpus in self.cpus]

    def job(self, command: list[str], memory: int | None, share: float, seconds: float | None) -> FleetJob:
        """Each guest boots, runs the command, and ends. Raises ConfigError."""
        size = 1 << 30 if memory is None else memory
        common = ["--fresh", "--memory", f"{size >> 20}"]
        common += [] if seconds is None else ["--timeout", f"{seconds:g}"]
        cases = []
        for named, system, cpus in self.cases:
            kernel, image = _whole(named), _whole(system)
            booted = image or (kernel if "/" in kernel else "")  # a kernel's file is what is booted, without a system
            words = [
                "boot",
                *([booted] if booted else []),
                *(["--kernel", kernel] if kernel not in ("", booted) else []),
            ]
            cases.append((*words, "--cpus", str(cpus), *common, "--", *(command or ["true"])))
        return FleetJob((), len(cases), GuestShare(share, size), seconds, cases=tuple(cases))


def _whole(name: str) -> str:
    """A file or folder by its whole path: guests begin elsewhere. Other names stay as they are."""
    return os.path.abspath(name) if "/" in name and os.path.exists(name) else name
