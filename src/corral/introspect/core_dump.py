"""A core file at a path (core_file.py has its content)."""

from __future__ import annotations

import os

from corral import os_errors
from corral.errors import ConfigError, HostError
from corral.introspect import core_file
from corral.introspect.kernel import GuestKernel, NotLinux, find
from corral.memory import GuestMemory
from corral.snapshot.ram import RamJob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.subject import Subject


class PublishingCore:
    """A context manager: an empty file, which is at `path` when all has gone well; else what was there stays. Raises
    HostError, also for an OSError within; ConfigError for a place where something else than a core file is."""

    def __init__(self, path: str) -> None:
        if os.path.lexists(path) and not _is_core(path):
            raise ConfigError(f"{path!r} is there and is no core file; name another file")
        self._path, self._beside = path, f"{path}.unfinished-{os.urandom(8).hex()}"

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from None
        return self._fd

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        os.close(self._fd)
        try:
            if error is None:
                os.rename(self._beside, self._path)
        except OSError as failure:
            error = failure
        if error is not None:
            os.unlink(self._beside)
        if isinstance(error, OSError):
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> HostError:
        cure = os_errors.text(error, "see who may write there, and whether there is room")
        return HostError(f"cannot write the core file {self._path!r}: {cure}")


def _is_core(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return os.path.isfile(path) and core_file.is_one(file.read(64))
    except OSError:
        return False


def kernel_of(subject: Subject) -> GuestKernel | None:
    """None: the guest is not Linux, or not one whose symbols are known; a core file has its memory and registers."""
    try:
        return find(subject)
    except NotLinux:
        return None


def write(path: str, subject: Subject) -> int:
    """Publishes it; returns how many bytes of RAM are in it. The guest is paused. Raises as PublishingCore does."""
    memory = subject.memory
    assert isinstance(memory, GuestMemory)
    with PublishingCore(path) as fd:
        head = core_file.head(subject.vcpus, memory.regions, kernel_of(subject))
        os.pwrite(fd, head, 0)
        os.ftruncate(fd, len(head) + memory.size)
        return RamJob(fd, len(head), memory).save()
