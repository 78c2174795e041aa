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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_inherited: tuple[int, ...] | None = None


def inherited() -> tuple[int, ...]:
    """The descriptors beside the standard ones, at the start of the process: somebody left them open. To be asked
    first before anything is opened, and then always the same."""
    global _inherited
    if _inherited is None:
        found = map(int, os.listdir("/proc/self/fd"))
        _inherited = tuple(fd for fd in found if fd > 2 and _is_open(fd))  # not that of listdir
    return _inherited


def have_inherited_nothing() -> None:
    """For a process of the pool: all that is open is its own, and stays open in the jail."""
    global _inherited
    _inherited = ()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def leave_namespaces() -> list[str]:
    """The host's, for this thread and those that it will start; that of the network comes by enter(), for all threads.
    Returns what this host's jail lacks, in words."""
    lacks: list[str] = []
    _step(lib.corral_jail_unshare(), "namespaces of its own", lacks)
    return lacks


def prepare_network() -> None:
    """Begins to make a network namespace for enter(), if neither the clerk nor this has begun to."""
    lib.corral_jail_prepare(ffi.NULL, ffi.NULL, 0)


def limit_files(longest: int) -> None:
    """No file of this process grows beyond so many bytes any more."""
    _step(lib.corral_jail_limit_files(longest), "a limit for files")


def enter(
    inherited: tuple[int, ...] = (),
    kind: int = lib.CORRAL_JAIL_MAIN,
    paths: Sequence[tuple[int, bool]] = (),
    own: int | None = None,
) -> list[str]:
    """Everything that comes after the machine is built. `inherited` are descriptors to close. `kind` is that of all
    threads there are, and of those that this one starts; each adds its own, this one `own`. `paths` may be opened
    still: descriptors, and whether what is there may be changed. Returns what this host's jail lacks, in words. Raises
    HostError where it has no seccomp."""
    lacks: list[str] = []
    for fd in inherited:
        os.close(fd)
    prepare_network()
    prepared = ffi.new("struct corral_jail_prepared *")
    lib.corral_jail_await(prepared)
    landlock = ffi.new("int *")
    allowed = ffi.new("struct corral_jail_path[]", [{"fd": fd, "writes": writes} for fd, writes in paths])
    _step(lib.corral_jail_hide(), "no new privileges")
    _step(lib.corral_jail_tell(False), "tell of refused calls")
    _step(lib.corral_jail_give_up(landlock, allowed, len(paths)), "no capabilities and no files")
    _step(prepared.network, "a network of its own", lacks)
    _step(landlock[0], "Landlock", None if paths else lacks)
    _step(lib.corral_jail_filter(kind, True), "seccomp filters")
    if own is not None:
        _step(lib.corral_jail_filter(own, False), "seccomp filters")
    return lacks


def report(kind: int = lib.CORRAL_JAIL_MAIN) -> None:
    """In its place: nothing is given up, and what the jail would refuse is told of once for each kind of thread. Raises
    HostError where there is no seccomp."""
    _step(lib.corral_jail_hide(), "no new privileges")
    _step(lib.corral_jail_tell(True), "tell of refused calls")
    _step(lib.corral_jail_filter(kind, True), "seccomp filters")


def enter_clerk() -> None:
    """For the process that makes reports (clerk.py): it keeps its user's files, and nothing else."""
    _step(lib.corral_jail_hide(), "no new privileges")
    _step(lib.corral_jail_tell(False), "tell of refused calls")
    _step(lib.corral_jail_filter(lib.CORRAL_JAIL_CLERK, False), "seccomp filters")


def _step(result: int, what: str, lacks: list[str] | None = None) -> None:
    if result >= 0:
        return
    if lacks is not None and -result in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOSPC):
        lacks.append(f"{what} ({os.strerror(-result)})")
        return
    why = os_errors.text(OSError(-result, os.strerror(-result)), "--jail off runs the guest without a jail")
    raise HostError(f"the jail cannot have {what}: {why}")
