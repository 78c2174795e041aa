"""The distributions in the cache as a person sees them: what there is, how large, in use or not; and away with it."""

from __future__ import annotations

import os
import shutil

from corral.errors import ConfigError
from corral.guests import cache, cache_content, distribution
from corral.guests.distribution_recipe import ABOUT
from corral.startup.record import record


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


def prune() -> int:
    """Removes what no guest will use any more, and what interrupted work has left. Returns the bytes freed."""
    freed = 0
    for image in listed():
        if not image.current and not image.in_use:
            freed += _remove(image)
    for left in _leftovers():
        freed += cache_content.size(left)
        shutil.rmtree(left, ignore_errors=True)
    return freed


def _folders() -> list[str]:
    parent = cache.folder("distributions")
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    paths = [os.path.join(parent, name) for name in names]
    return [path for path in paths if os.path.exists(os.path.join(path, ABOUT)) and "." not in path[-17:]]


def _leftovers() -> list[str]:
    """Folders of work that was interrupted. What is being made is locked (cache.making), and stays."""
    left = []
    for parent in (cache.folder("distributions"), cache.folder("distributions", "stages")):
        for name in sorted(os.listdir(parent)) if os.path.isdir(parent) else []:
            path = os.path.join(parent, name)
            stage = os.path.basename(parent) == "stages"
            if os.path.isdir(path) and (stage or ".unfinished-" in name) and not cache_content.in_use(path):
                left.append(path)
    return left


def _stored(folder: str, current: bool) -> Stored:
    with open(os.path.join(folder, ABOUT), encoding="ascii") as file:
        release = file.read().strip()
    name = os.path.basename(folder).rpartition("_")[0]
    return Stored(name, release, cache_content.size(folder), cache_content.in_use(folder), current, folder)


def _remove(image: Stored) -> int:
    if not cache_content.remove(image.folder):
        raise ConfigError(f"the image {image.name} is in use by a guest; end that first")
    return image.size
