"""What is made in the user's cache folder, once. Everything in it can be deleted at any time and is made again."""

from __future__ import annotations

import errno
import os

from corral.errors import HostError
from corral.user_cache import folder as folder

_LITTLE = 1 << 20  # bytes free on a disk that is full
_UNFINISHED = ".unfinished-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO


def made(*parts: str) -> list[str]:
    """The folders in folder(*parts) that are whole, oldest first."""
    parent = folder(*parts)
    names = os.listdir(parent) if os.path.isdir(parent) else []
    paths = [os.path.join(parent, name) for name in names if _UNFINISHED not in name]
    return sorted((path for path in paths if os.path.isdir(path)), key=os.path.getmtime)


def making(
    target: str, progress: Callable[[str], None] = lambda text: None
) -> AbstractContextManager[str | None, bool | None]:
    """Makes the folder `target` once: gives a folder to fill, which becomes `target` at the end, or None when it
    is there already. Of several processes one makes it and the others wait. An interrupted one leaves nothing, and
    what a killed one left goes when the next begins."""
    if os.path.isdir(target):
        return _There()
    from contextlib import contextmanager

    return contextmanager(_make)(target, progress)


class _There:
    """Nothing to make. Most starts of a guest come by here, and contextlib takes 3 ms to import."""

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


def _lock(target: str) -> IO[str]:
    """The file by which one process makes a folder of the cache. Raises HostError where there can be none."""
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return open(f"{target}.lock", "w")
    except OSError as error:
        where = os.path.dirname(target)
        cure = "set XDG_CACHE_HOME to a folder that you may write"
        raise HostError(f"nothing can be kept in {where}: {error.strerror}; {cure}") from error


def _full(error: OSError, folder: str) -> str:
    """What is wrong with the disk of the cache, if that is what the error is about; other disks may be full, too."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        return ""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    about = os.statvfs(folder)
    if not name.startswith(folder) and (name or (about.f_bavail * about.f_frsize > _LITTLE and about.f_favail)):
        return ""
    return f"no room in {folder}: {error.strerror}; free some, or set XDG_CACHE_HOME to a folder on another disk"


def _make(target: str, progress: Callable[[str], None]) -> Iterator[str | None]:
    import fcntl
    import shutil
    import tempfile

    with _lock(target) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {os.path.basename(target)}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_still_there(lock.fileno(), f"{target}.lock"):  # cache_content.py removed it: this locks nothing
            yield from _make(target, progress)
            return
        if os.path.isdir(target):
            yield None
            return
        parent, name = os.path.split(target)
        for left in os.listdir(parent):
            if left.startswith(f"{name}{_UNFINISHED}"):
                shutil.rmtree(os.path.join(parent, left), ignore_errors=True)
        unfinished = tempfile.mkdtemp(prefix=f"{name}{_UNFINISHED}", dir=parent)
        try:
            yield unfinished
            os.chmod(unfinished, 0o755)
            os.rename(unfinished, target)
        except BaseException as error:
            progress("tidying up")  # a kernel's source is many files
            if isinstance(error, OSError) and (reason := _full(error, parent)):
                raise HostError(reason) from error
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def is_unfinished(name: str) -> bool:
    return _UNFINISHED in name


def is_still_there(fd: int, path: str) -> bool:
    """Whether the file that is open is the one with that name, and not one that was removed since."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
