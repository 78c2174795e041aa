"""Container images in the cache: an EROFS image a manifest, by its digest, and which names stand for it.

An image is a folder that is made once (cache.making); what is beside is one file of names. Layers as they came from a
registry are kept too, by their digests, for the next image that has them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import contextmanager

from corral.errors import BootError, ConfigError, HostError
from corral.files.file import Flaw
from corral.guests import cache, cache_content
from corral.oci import documents
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corral.oci.documents import ImageConfig

IMAGES, BLOBS = "container-images", "container-layers"
ROOT, ABOUT = "root.erofs", "about.json"
LIMIT_VARIABLE, _LIMIT = "CORRAL_IMAGES_LIMIT", 20 << 30
_FORM = "1"  # of what is in an image's folder: another for each change of it
_NAMES = "names.json"
_SCRATCH = "scratch-"
_LISTS = ("entrypoint", "cmd", "env", "exposed_ports", "volumes")
_TEXTS = ("user", "working_dir", "stop_signal")
_YOUNG = 60  # seconds: what was used since then is not removed to make room


@record(frozen=True)
class Stored:
    """`names` may be empty; `size` is what it takes of the host's disk, in bytes; `used` a time, in seconds."""

    names: tuple[str, ...]
    digest: str
    size: int
    used: float
    in_use: bool
    folder: str


def folder_of(digest: str) -> str:
    return cache.folder(IMAGES, f"{digest.removeprefix('sha256:')}_{_FORM}")


def blobs() -> str:
    """The folder of layers and documents; a file is named by its digest's digits."""
    return cache.folder(BLOBS, "sha256")


@contextmanager
def using_blobs() -> Iterator[str]:
    """The folder of layers, which is not removed meanwhile."""
    folder = blobs()
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    while True:
        with open(f"{folder}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if cache.is_still_there(lock.fileno(), lock.name):
                os.makedirs(folder, exist_ok=True)
                yield folder
                return


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for what is needed while an image is made. One that a killed process left goes with the next."""
    import shutil

    parent = cache.folder(IMAGES)
    os.makedirs(parent, exist_ok=True)
    for entry in cache_content.entries(IMAGES):
        if entry.name.startswith(_SCRATCH) and not entry.in_use:
            cache_content.remove(entry.path)
    folder = os.path.join(parent, f"{_SCRATCH}{os.urandom(8).hex()}")
    with open(f"{folder}.lock", "w") as lock:  # before there is the folder: others remove one that is not locked
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            os.mkdir(folder, 0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.unlink(lock.name)


def listed() -> list[Stored]:
    """The images that there are, those used last first."""
    by_digest: dict[str, list[str]] = {}
    for name, about in _names().items():
        by_digest.setdefault(about["digest"], []).append(name)
    found = []
    for entry in cache_content.entries(IMAGES):
        digits, _, form = entry.name.partition("_")
        if form != _FORM or cache.is_unfinished(entry.name):
            continue
        digest = f"sha256:{digits}"
        try:
            used = os.stat(os.path.join(entry.path, ROOT)).st_atime
        except OSError:  # somebody has just removed it
            continue
        names = tuple(sorted(by_digest.get(digest, ())))
        found.append(Stored(names, digest, entry.size, used, entry.in_use, entry.path))
    return sorted(found, key=lambda image: image.used, reverse=True)


def config(digest: str) -> ImageConfig:
    """Of an image that was built. Raises BootError where it was damaged since."""
    path = os.path.join(folder_of(digest), ABOUT)
    try:
        with open(path, "rb") as file:
            found = documents.document(file.read(), "configuration")
        fields: dict[str, Any] = {name: tuple(found[name]) for name in _LISTS} | {name: found[name] for name in _TEXTS}
        return documents.ImageConfig(labels=found["labels"], **fields)
    except (OSError, KeyError, TypeError, Flaw):
        raise BootError(f"{path} is damaged; remove the image and make it again: corral rmi {digest[:19]}") from None


def named(name: str, identity: str = "") -> str:
    """The digest of the image that is here and has that name; "" for none. `identity`: what is known of where it came
    from, if that has to be the same still."""
    about = _names().get(name)
    if about is None or (identity and about.get("identity") != identity):
        return ""
    return about["digest"] if os.path.isdir(folder_of(about["digest"])) else ""


def set_name(name: str, digest: str, identity: str = "") -> None:
    with _writing_names() as names:
        names[name] = {"digest": digest, "identity": identity}


def used(digest: str) -> None:
    """Notes that it is, now. A cache that cannot be written is none that has to be tidied up."""
    path = os.path.join(folder_of(digest), ROOT)
    try:
        os.utime(path, (time.time(), os.stat(path).st_mtime))
    except OSError:
        pass


def find(word: str) -> tuple[Stored, str]:
    """The image that a person means by a name, or by the begin of a digest; and that name, "" for a digest. Raises
    ConfigError for none, or several."""
    from corral.oci import reference

    images = listed()
    digits = word.removeprefix("sha256:")
    if len(digits) >= 4 and not digits.strip("0123456789abcdef"):
        found = [image for image in images if image.digest.startswith(f"sha256:{digits}")]
        if len(found) > 1:
            raise ConfigError(f"{len(found)} images have digests that begin with {digits}; write more of it")
        if found:
            return found[0], ""
    name = reference.parse(word).name
    for image in images:
        if name in image.names:
            return image, name
    raise ConfigError(f"there is no image {word!r}; see corral images list")


def remove(image: Stored, name: str = "") -> int:
    """Removes it, or with `name`, where it has others, that name alone. Returns the bytes that were freed. Raises
    ConfigError when a guest uses it."""
    if name and len(image.names) > 1:
        with _writing_names() as names:
            names.pop(name, None)
        return 0
    if not cache_content.remove(image.folder):
        raise ConfigError(f"the image {name or image.digest} is in use by a guest; end that first")
    with _writing_names() as names:
        for each in image.names:
            names.pop(each, None)
    return image.size


def prune(everything: bool = False) -> int:
    """Removes images without a name, what older Corrals and interrupted work left, and layers; with `everything` all
    that no guest uses. Returns the bytes that were freed."""
    freed = 0
    current = {image.folder: image for image in listed()}
    for entry in cache_content.entries(IMAGES):
        image = current.get(entry.path)
        if (everything or image is None or not image.names) and cache_content.remove(entry.path):
            freed += entry.size
    for entry in cache_content.entries(BLOBS):
        if cache_content.remove(entry.path):
            freed += entry.size
    with _writing_names() as names:
        for name in [name for name, about in names.items() if not os.path.isdir(folder_of(about["digest"]))]:
            del names[name]
    return freed


def limit() -> int:
    """Bytes that images and layers may take, by CORRAL_IMAGES_LIMIT. Raises ConfigError."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return _LIMIT
    from corral.config import parse_size

    try:
        return parse_size(text)
    except ConfigError as error:
        raise ConfigError(f"{LIMIT_VARIABLE}: {error}") from None


def keep_within(most: int) -> None:
    """Layers go first, then the images that were not used for longest and are not in use."""
    images = listed()
    layers = cache_content.entries(BLOBS)
    size = sum(entry.size for entry in layers) + sum(image.size for image in images)
    for entry in layers:
        if size > most and cache_content.remove(entry.path):
            size -= entry.size
    for image in reversed(images):
        if size > most and time.time() - image.used > _YOUNG and cache_content.remove(image.folder):
            size -= image.size


def _names() -> dict[str, dict[str, str]]:
    """What is in the file of names. A file that was damaged has none."""
    try:
        with open(cache.folder(IMAGES, _NAMES), "rb") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: about for name, about in found.items() if _is_entry(about)}


def _is_entry(about: Any) -> bool:
    from corral.oci.reference import DIGEST

    return isinstance(about, dict) and isinstance(about.get("digest"), str) and bool(DIGEST.fullmatch(about["digest"]))


@contextmanager
def _writing_names() -> Iterator[dict[str, dict[str, str]]]:
    """The names, to be changed; by one process at a time."""
    path = cache.folder(IMAGES, _NAMES)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = _names()
            before = dict(names)
            yield names
            if names != before:
                with open(f"{path}.new", "w") as file:
                    json.dump(names, file, indent=1)
                os.rename(f"{path}.new", path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "free some space there" if full else "set XDG_CACHE_HOME to a folder that you may write"
        raise HostError(f"cannot write {path}: {error.strerror}; {cure}") from None
