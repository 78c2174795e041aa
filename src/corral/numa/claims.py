"""Machines on one host keep off one another's CPUs: who pins a vCPU to a CPU holds a lock for it.

The lock is on a byte of /dev/kvm, which everybody opens who runs machines at all: an open file description lock
(fcntl_locking(2)), so that the kernel gives it back when the process ends, however it does. The first machine on a CPU
has the byte of its number, the next one that byte of the next level.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from corral.errors import HostError
from corral.numa.placement import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.numa.host import HostTopology
    from corral.numa.plan import Plan
    from corral.numa.request import Request

_GETLK, _SETLK = 36, 37  # F_OFD_*, asm-generic/fcntl.h; Python has the names from 3.14 on
_FLOCK = struct.Struct("hh4xqqi4x")
LEVEL = 1 << 20  # bytes from a level to the next
LEVELS = 8  # machines on a CPU that are told apart
ATTEMPTS = 16


class Claims:
    """A context manager: what it claimed is free again at its end. Raises HostError without a /dev/kvm to open."""

    def __init__(self, device: str = "/dev/kvm") -> None:
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"{device}: {os.strerror(error.errno or 0)}; see corral doctor") from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def load(self, cpus: Iterable[int]) -> dict[int, int]:
        """How many other machines have a vCPU pinned to each; those without are left out."""
        counts = {}
        for cpu in cpus:
            level = 0
            while level < LEVELS and self._is_locked(cpu + level * LEVEL):
                level += 1
            if level:
                counts[cpu] = level
        return counts

    def place(self, host: HostTopology, request: Request) -> Plan:
        """A plan by what the others have now, and its CPUs claimed. Raises as placement.place()."""
        for _ in range(ATTEMPTS):
            load = self.load(cpu.id for cpu in host.cpus)
            plan = place(host, request, load)
            if self._claim(plan.pinned, load):
                return plan
        raise HostError("others claim CPUs as fast as this machine does; try again, or --pin none")

    def _claim(self, cpus: Iterable[int], load: dict[int, int]) -> bool:
        """False, and nothing is claimed, when somebody was quicker."""
        claimed: list[int] = []
        for cpu in cpus:
            at = cpu + min(load.get(cpu, 0), LEVELS - 1) * LEVEL
            try:
                fcntl.fcntl(self._fd, _SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if load.get(cpu, 0) >= LEVELS:
                    continue  # more than are counted: it shares the last one's
                for other in claimed:
                    fcntl.fcntl(self._fd, _SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, other, 1, 0))
                return False
            claimed.append(at)
        return True

    def _is_locked(self, at: int) -> bool:
        answer = fcntl.fcntl(self._fd, _GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
