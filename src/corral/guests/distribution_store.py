"""The distributions in the cache as a person sees them: what there is, how large, in use or not; and away with it."""

from __future__ import annotations

import fcntl
import os
import shutil

from corral.errors import ConfigError
from corral.guests import cache, distribution
from corral.record import record


@record(frozen=True)
class Stored:
    """`size` is what it takes of the host's disk, in bytes. `current`: this Corral would boot it."""

    name: str
    release: str
    size: int
    in_use: bool
    current: bool
    folder: str


def listed() -> list[Stored]:
    current = {found.folder for found in distribution.ready()}
    return [_stored(folder, folder in current) for folder in _folders()]


def remove(name: str) -> int:
    """Removes what has that name, older ones too. Returns the bytes that were freed. Raises ConfigError when there is
    none, or a guest uses it."""
    found = [image for image in listed() if image.name == name]
    if not found:
        raise ConfigError(f"there is no image {name!r}; see corral images list")
    return sum(_remove(image) for image in found)


def prune(everything: bool) -> int:
    """Removes what no guest will use any more, or `everything` that none uses now. Returns the bytes freed."""
    freed = 0
    for image in listed():
        if (everything or not image.current) and not image.in_use:
            freed += _remove(image)
    for left in _leftovers():
        freed += _size(left)
        shutil.rmtree(left, ignore_errors=True)
    return freed


def _folders() -> list[str]:
    parent = cache.folder("distributions")
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    paths = [os.path.join(parent, name) for name in names]
    return [path for path in paths if os.path.exists(os.path.join(path, distribution.ABOUT)) and "." not in path[-17:]]


def _leftovers() -> list[str]:
    """Folders of work that was interrupted. What is being made is locked (cache.making), and stays."""
    left = []
    for parent in (cache.folder("distributions"), cache.folder("distributions", "stages")):
        for name in sorted(os.listdir(parent)) if os.path.isdir(parent) else []:
            path = os.path.join(parent, name)
            stage = os.path.basename(parent) == "stages"
            if os.path.isdir(path) and (stage or ".unfinished-" in name) and not _being_made(path):
                left.append(path)
    return left


def _being_made(path: str) -> bool:
    """Whether the lock of the folder, or of the one that a stage is for, is held."""
    name = os.path.basename(path).partition(".unfinished-")[0]
    locks = [os.path.join(os.path.dirname(path), f"{name}.lock")]
    if os.path.basename(os.path.dirname(path)) == "stages":
        locks.append(cache.folder("distributions", f"{name.rpartition('_')[0]}.lock"))
    return any(_locked(lock) for lock in locks)


def _stored(folder: str, current: bool) -> Stored:
    with open(os.path.join(folder, distribution.ABOUT), encoding="ascii") as file:
        release = file.read().strip()
    name = os.path.basename(folder).rpartition("_")[0]
    return Stored(name, release, _size(folder), _locked(os.path.join(folder, distribution.IMAGE)), current, folder)


def _locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _remove(image: Stored) -> int:
    """Under the lock that guests take (disk_image.py), so that none begins meanwhile."""
    with open(os.path.join(image.folder, distribution.IMAGE), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"the image {image.name} is in use by a guest; end that first") from None
        gone = f"{image.folder}.unfinished-removed"
        os.rename(image.folder, gone)
        shutil.rmtree(gone)
    return image.size


def _size(folder: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(parent, name)).st_blocks * 512 for name in names)
    return total
