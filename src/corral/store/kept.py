"""What is in a store, and what leaves it."""

from __future__ import annotations

import os

from corral.errors import BootError, ConfigError
from corral.startup.record import record
from corral.store import address, chunks, manifest, turns, workers
from corral.store.address import UNFINISHED
from corral.store.place import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.store.manifest import StoreManifest
    from corral.store.place import Place

NEWEST = 8  # manifests


@record(frozen=True)
class StoredSnapshot:
    """A snapshot in a store. `digest` in hexadecimal digits; `saved`: when it was pushed, in seconds since 1970;
    `memory`: bytes of RAM; `chunks`: how many are not zeros."""

    name: str
    digest: str
    saved: int
    memory: int
    cpus: int
    kind: str
    cpu: str
    chunks: int


def snapshots(url: str) -> list[StoredSnapshot]:
    """Those in the store `url`, by name. Raises BootError for one whose manifest is damaged, ConfigError, HostError."""
    found = []
    for name, (one, digest) in _manifests(_existing(url)).items():
        count = sum(1 for _ in manifest.keys(one))
        found.append(StoredSnapshot(name, digest.hex(), one.saved, one.memory, one.cpus, one.kind, one.cpu, count))
    return found


def remove(url: str) -> None:
    """The snapshot's name; its chunks stay until prune(). Raises BootError when there is none, ConfigError,
    HostError."""
    source = address.of_snapshot(url)
    place = opened(source)
    if not place.has(manifest.name(source.name)):
        raise BootError(f"there is no snapshot {str(source)!r}; corral snapshot list tells which there are")
    place.remove(manifest.name(source.name))


def prune(url: str, force: bool = False) -> int:
    """Removes the chunks that no snapshot of the store has, and what killed pushes left; returns how many. `force`: no
    push is at work, whatever it looks like. Raises BootError, and removes nothing, when a manifest is damaged;
    HostError while a push is at work; ConfigError."""
    place = _existing(url)
    with turns.pruning(place, force):
        used = {chunks.name(key) for one, _ in _manifests(place).values() for _, _, key in manifest.keys(one)}
        unused = [name for name in place.files(chunks.FOLDER) if name not in used]
        unused += [name for name in place.files(manifest.FOLDER) if UNFINISHED in name]
        for _ in workers.each(place.remove, unused, place.at_once):
            pass
    return len(unused)


def _existing(url: str) -> Place:
    where = address.of_store(url)
    place = opened(where)
    if not where.scheme and not os.path.isdir(where.root):
        raise ConfigError(f"there is no store {url!r}: no such folder; corral snapshot push makes one")
    return place


def known(place: Place) -> set[bytes]:
    """SHA-256s of chunks that a store has, by its newest manifests: a manifest is there after its chunks, and no prune
    takes them. To ask for each chunk takes longer."""
    written = place.files(manifest.FOLDER)
    newest = [name for name in sorted(written, key=lambda one: written[one]) if UNFINISHED not in name][-NEWEST:]

    def read(name: str) -> set[bytes]:
        try:
            return {key for _, _, key in manifest.keys(manifest.decode(place.read(name, manifest.MOST), name)[0])}
        except (FileNotFoundError, BootError):  # removed meanwhile; or damaged, and then it says nothing of chunks
            return set()

    return set().union(*workers.each(read, newest, place.at_once))


def _manifests(place: Place) -> dict[str, tuple[StoreManifest, bytes]]:
    def read(name: str) -> tuple[str, tuple[StoreManifest, bytes]] | None:
        short = name.removeprefix(f"{manifest.FOLDER}/")
        try:
            return short, manifest.decode(place.read(name, manifest.MOST), short)
        except FileNotFoundError:  # it was removed meanwhile
            return None

    names = sorted(name for name in place.files(manifest.FOLDER) if UNFINISHED not in name)
    return dict(one for one in workers.each(read, names, place.at_once) if one)
