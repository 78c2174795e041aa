"""A system call that failed where nothing better is known: the cause as the kernel told it, and a cure that fits.

A container, a service manager, a quota or a full disk can make any call fail. What only Corral can have caused is no
such thing, and stays a traceback.
"""

from __future__ import annotations

import errno
import os

from corral.errors import DENIED, POLICY, SCARCE, HostError

_SPACE = "free some space there, or set XDG_CACHE_HOME and TMPDIR to folders on another disk"
_CURES = {
    errno.EPERM: POLICY,
    errno.ENOSYS: POLICY,
    errno.EACCES: "see who may use it, and as whom Corral runs",
    errno.EROFS: "its file system is read-only; for what Corral keeps, XDG_CACHE_HOME may name another folder",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EMFILE: "too few open files are allowed; see ulimit -n",
    errno.ENFILE: "the host has too many open files; see /proc/sys/fs/file-max",
    errno.ENOMEM: "free memory, or see the limits of this user, service or container (ulimit -v, memory.max)",
    errno.EAGAIN: "a limit on processes and threads may be reached (ulimit -u, pids.max)",
    errno.ENOENT: "it is needed here, and missing",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "a path is too long; use a shorter one",
    errno.EIO: "see dmesg for what is wrong with the disk below",
    errno.ESTALE: "the server of its file system has lost it; mount it again",
    errno.EBUSY: "something else uses it",
    errno.ETXTBSY: "something else uses it",
    errno.EEXIST: "something else has made it meanwhile; try again",
    errno.EISDIR: "it is a folder",
    errno.EFBIG: "a limit on the size of files is reached; see ulimit -f",
    errno.ENODEV: "the device behind it is gone",
    errno.ENXIO: "the device behind it is gone",
    errno.EOPNOTSUPP: "that file system, or kernel, cannot do it",
}


def explained(error: OSError) -> HostError | None:
    """None for what no host is to blame for."""
    cure = _CURES.get(error.errno or 0)
    if cure is None:
        return None
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    what = " and ".join(repr(name) for name in names) or f"in {_place(error)}"
    return HostError(f"{what}: {error.strerror}; {cure}")


def text(error: OSError, cure: str) -> str:
    """The kernel's word and a cure: `cure`, unless a policy or a limit of the host is what has to change."""
    number = error.errno or 0
    return f"{error.strerror}; {_CURES[number] if number in (*DENIED, *SCARCE) else cure}"


def of_c(number: int) -> str:
    """The same of an errno that C has left."""
    return text(OSError(number, os.strerror(number)), _CURES.get(number, "see corral doctor"))


def _place(error: OSError) -> str:
    """The function that made the call: of those on the way there the last one of ours."""
    found, step = "a system call", error.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__", "")
        if module.startswith("corral"):
            found = f"{module}.{step.tb_frame.f_code.co_name}()"
        step = step.tb_next
    return found
