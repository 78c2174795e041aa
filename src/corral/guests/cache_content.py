"""What is in the cache, kind by kind, and its removal where it is not in use."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import ExitStack

from corral.guests import cache
from corral.startup.record import record

KINDS = {
    "kernels": "kernels that Corral built",
    "debian": "packages of the host's release: sources, busybox, SeaBIOS",
    "linux": "kernels of the host's release",
    "linux-others": "kernels of other releases",
    "from-disks": "kernels that were on disks",
    "distributions": "images that corral boot debian made; see corral images list",
    "stages": "distributions, half made",
    "unpacked": "kernels of packages, ready to load",
    "injections": "what makes them run natively on a pagetable KVM",
    "initramfs": "Corral's own initramfs",
    "host": "what corral boot host starts with",
    "bios": "SeaBIOS",
    "cloud-init": "seed disks of cloud images",
    "workloads": "programs of corral compare",
    "tiny": "guests of a few instructions, of examples and tests",
    "boots": "guests that the next corral boot goes on from; the least used go by themselves",
    "chunks": "of snapshots in stores; the least used go by themselves",
    "snapshots": "snapshots in stores that guests here went on from; the least used go by themselves",
    "container-images": "container images, as file systems; see corral images list",
    "container-layers": "what they were made of",
    "apt": "package lists of other releases",
}
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_INSIDE = {"stages": ("distributions", "stages")}
_REMOVED = ".unfinished-removed"  # what cache.making() sweeps up if this process ends first


@record(frozen=True)
class CacheEntry:
    """`size` is what it takes of the host's disk, in bytes."""

    kind: str
    name: str
    path: str
    size: int
    in_use: bool


def entries(kind: str) -> list[CacheEntry]:
    """By name; what was left by makers that were killed is among them."""
    parent = _folder(kind)
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    paths = [(name, os.path.join(parent, name)) for name in names if name not in _INSIDE]
    return [CacheEntry(kind, name, path, size(path), in_use(path)) for name, path in paths if os.path.isdir(path)]


def of_work() -> int:
    """Bytes of what is in the cache's folder and is not made for guests: a checkout's."""
    parent = cache.folder()
    names = [name for name in (os.listdir(parent) if os.path.isdir(parent) else []) if name not in KINDS]
    return sum(size(os.path.join(parent, name)) for name in names)


def clean() -> tuple[int, list[str]]:
    """Removes what is neither in use nor being made, and the locks that are left. Gives the bytes that were freed, and
    the names of what stays."""
    freed, kept = 0, []
    for kind in KINDS:
        for entry in entries(kind):
            if remove(entry.path):
                freed += entry.size
            else:
                kept.append(f"{kind}/{entry.name}")
        for name in sorted(os.listdir(_folder(kind))) if os.path.isdir(_folder(kind)) else []:
            if name.endswith(".lock"):
                _remove_lock(os.path.join(_folder(kind), name))
    return freed, kept


def remove(path: str) -> bool:
    """Removes one folder of the cache, under the locks of those who make and use it. False: somebody does."""
    own, *others = _locks_of(path)
    with ExitStack() as stack:
        locks: list[IO[Any]] = [stack.enter_context(open(own, "a"))]
        locks += [stack.enter_context(open(other, "a")) for other in others if os.path.exists(other)]
        if not all(_locked_by_us(lock.fileno()) and cache.is_still_there(lock.fileno(), lock.name) for lock in locks):
            return False
        if not os.path.isdir(path):  # it is whole now, and has another name
            return False
        used = [stack.enter_context(open(name, "rb")) for name in _files(path)]
        if not all(_locked_by_us(file.fileno()) for file in used):
            return False
        gone = path + _REMOVED
        os.rename(path, gone)
        shutil.rmtree(gone)
        os.unlink(own)
    return True


def in_use(path: str) -> bool:
    """Whether somebody makes this folder of the cache, or a guest uses what is in it."""
    return any(_is_locked(name) for name in (*_locks_of(path), *_files(path)))


def size(folder: str) -> int:
    """What a folder takes of the disk, in bytes."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:  # somebody else removed it
                pass
    return total


def _folder(kind: str) -> str:
    return cache.folder(*_INSIDE.get(kind, (kind,)))


def _locks_of(path: str) -> list[str]:
    """The lock by which cache.making() makes it, also of what is unfinished; a stage has its distribution's too."""
    parent, name = os.path.split(path.partition(".unfinished-")[0])
    locks = [os.path.join(parent, f"{name}.lock")]
    if os.path.basename(parent) == "stages":
        locks.append(cache.folder("distributions", f"{name.rpartition('_')[0]}.lock"))
    return locks


def _files(path: str) -> list[str]:
    """Those that a guest may have locked (disk_image.py)."""
    try:
        with os.scandir(path) as found:
            return [entry.path for entry in found if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:  # it is whole now, and has another name, or somebody has removed it
        return []


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:  # gone, or no file that anybody could lock
        return False
    try:
        return not _locked_by_us(fd)
    finally:
        os.close(fd)


def _locked_by_us(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_lock(path: str) -> None:
    """One that belongs to nothing any more, unless somebody holds it."""
    with open(path, "a") as lock:
        ours = _locked_by_us(lock.fileno()) and cache.is_still_there(lock.fileno(), path)
        if ours and not os.path.exists(path.removesuffix(".lock")):
            os.unlink(path)
