"""A core file at a path (core_file.py has its content)."""

from __future__ import annotations

import os

from corral.introspect import core_file
from corral.introspect.kernel import GuestKernel, NotLinux, find
from corral.memory import GuestMemory
from corral.snapshot.file import Publishing
from corral.snapshot.ram import RamJob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.subject import Subject


def publishing(path: str) -> Publishing:
    """Its file, which is at `path` when all has gone well. Raises as Publishing does."""
    return Publishing(path, "core file", _is_core)


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
    """Publishes it; returns how many bytes of RAM are in it. The guest is paused. Raises as publishing() does."""
    memory = subject.memory
    assert isinstance(memory, GuestMemory)
    with publishing(path) as fd:
        head = core_file.head(subject.vcpus, memory.regions, kernel_of(subject))
        os.pwrite(fd, head, 0)
        os.ftruncate(fd, len(head) + memory.size)
        return RamJob(fd, len(head), memory).save()
