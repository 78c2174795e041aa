"""Puts this process into the jail, for good: everything that its guest needs is open and every device has its threads.

docs/security.md tells what each step stops. A step that the host does not have is left out and told of; seccomp alone
is required, for without it there is no jail.
"""

from __future__ import annotations

import errno
import os

from corral import os_errors
from corral.errors import HostError
from corral.native import ffi, lib


def inherited() -> tuple[int, ...]:
    """The descriptors beside the standard ones, at the start of the process: somebody left them open."""
    return tuple(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_open(fd))  # not that of listdir


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def enter(strangers: tuple[int, ...]) -> list[str]:
    """Everything that comes after the machine is built. `strangers` are descriptors to close. Returns what this host's
    jail lacks, in words. Raises HostError where it has no seccomp."""
    lacks: list[str] = []
    for fd in strangers:
        os.close(fd)
    landlock = ffi.new("int *")
    _step(lib.corral_jail_hide(), "no new privileges")
    _step(lib.corral_jail_unshare(), "namespaces of its own", lacks)
    _step(lib.corral_jail_tell(), "tell of refused calls")
    _step(lib.corral_jail_give_up(landlock), "no capabilities and no files")
    _step(landlock[0], "Landlock", lacks)
    _step(lib.corral_jail_filter(lib.CORRAL_JAIL_MAIN, True), "seccomp filters")
    return lacks


def enter_clerk() -> None:
    """For the process that makes reports (clerk.py): it keeps its user's files, and nothing else."""
    _step(lib.corral_jail_hide(), "no new privileges")
    _step(lib.corral_jail_tell(), "tell of refused calls")
    _step(lib.corral_jail_filter(lib.CORRAL_JAIL_CLERK, False), "seccomp filters")


def _step(result: int, what: str, lacks: list[str] | None = None) -> None:
    if result >= 0:
        return
    if lacks is not None and -result in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOSPC):
        lacks.append(f"{what} ({os.strerror(-result)})")
        return
    why = os_errors.text(OSError(-result, os.strerror(-result)), "--jail off runs the guest without a jail")
    raise HostError(f"the jail cannot have {what}: {why}")
