"""A snapshot from a store into a file."""

from __future__ import annotations

import os

from corral.errors import BootError, ConfigError, HostError
from corral.snapshot.file import Publishing
from corral.snapshot.resumed import NAME, Resumed
from corral.store import address, chunks, manifest, node_cache, workers
from corral.store.address import Address
from corral.store.place import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.store.manifest import StoreManifest
    from corral.store.place import Place

_SPARE = 16 << 20  # bytes that stay free on the disk


def pull(
    url: str,
    path: str | os.PathLike[str],
    digest: str | None = None,
    any_host: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Makes the snapshot's file, and returns how many chunks came from the store; the others were zeros or are in this
    host's cache. `digest`: what push() gave, if it has to be that one; `any_host`: also where its guest cannot go on.
    Each chunk is held against its SHA-256, and the file has its name when it is whole. Raises BootError for what is not
    what was pushed, or for another host; ConfigError, HostError."""
    source = address.of_snapshot(url)
    place = opened(source)
    found, has = _manifest(place, source)
    if digest is not None and has.hex() != digest.lower():
        raise BootError(f"snapshot {str(source)!r}: its digest is {has.hex()}, not {digest}; it was pushed anew")
    return _fetch(place, source, found, os.fspath(path), any_host, progress)


def local_copy(url: str, progress: Callable[[str], None] = lambda text: None) -> str:
    """The path of a file in this host's cache, to which the snapshot was pulled, now or before. Raises what pull()
    does."""
    from corral.guests import cache

    source = address.of_snapshot(url)
    place = opened(source)
    found, digest = _manifest(place, source)
    target = node_cache.snapshot_folder(digest)
    with cache.making(target, progress) as folder:
        if folder is not None:
            node_cache.make_room_for_snapshots()
            _fetch(place, source, found, os.path.join(folder, NAME), False, progress)
    os.utime(target)
    return os.path.join(target, NAME)


def _manifest(place: Place, source: Address) -> tuple[StoreManifest, bytes]:
    try:
        text = place.read(manifest.name(source.name), manifest.MOST)
    except FileNotFoundError:
        raise BootError(f"there is no snapshot {str(source)!r}; corral snapshot list tells which there are") from None
    return manifest.decode(text, str(source))


def _fetch(
    place: Place, source: Address, found: StoreManifest, path: str, any_host: bool, progress: Callable[[str], None]
) -> int:
    kept = node_cache.KeptChunks() if source.scheme else None

    def get(item: tuple[int, int, bytes]) -> tuple[int, bytes, bool]:
        at, length, key = item
        if kept and (data := kept.get(key, length)) is not None:
            return at, data, False
        name = chunks.name(key)
        try:
            stored = place.read(name, chunks.MOST)
            data = chunks.unpack(stored, key, length)
        except FileNotFoundError:
            raise _lost(source, f"its chunk {name!r} is gone from the store") from None
        except chunks.Damaged:
            raise _lost(source, f"its chunk {name!r} was changed or cut off in the store") from None
        if kept:
            kept.put(key, stored)
        return at, data, True

    items = list(manifest.keys(found))
    fetched, written, fits = 0, 0, any_host
    with Publishing(path) as fd:
        os.ftruncate(fd, found.size)
        _require_room(fd, len(items) * chunks.SIZE, path)
        head = found.parts[0].length if found.parts else 0
        for count, (at, data, is_new) in enumerate(workers.each(get, items, place.at_once), 1):
            if not fits and at >= head:
                _require_fit(path, fd, source)
                fits = True
            for begin, end in chunks.pages(data):
                written += os.pwrite(fd, data[begin:end], at + begin)
            fetched += is_new
            progress(f"fetching {source.name}, {100 * count // len(items)} %")
        with Resumed(str(source), fd) as resumed:
            if resumed.content.parent is not None:
                raise _lost(source, "it has a parent")
    if kept:
        kept.make_room()
    return fetched


def _lost(source: Address, what: str) -> BootError:
    return BootError(f"snapshot {str(source)!r}: {what}; push it again, with --whole")


def _require_room(fd: int, wanted: int, path: str) -> None:
    about = os.fstatvfs(fd)
    if about.f_bavail * about.f_frsize < wanted + _SPARE:
        raise HostError(f"{path!r} would take {wanted >> 20} MiB, and its disk has not so much; free some")


def _require_fit(path: str, fd: int, source: Address) -> None:
    """By what has come: all but RAM and disks. Raises BootError; a host without KVM may keep it for others."""
    from corral.arch.x86_64 import apic_ids, cpuid
    from corral.kvm.system import Kind, System

    with Resumed(str(source), fd) as resumed:
        guest = resumed.content.guest
        try:
            system = System()
        except HostError:
            return
        with system:
            if not 0 < guest.cpus <= 1024:
                raise ConfigError(f"snapshot {str(source)!r} has {guest.cpus} vCPUs, which no guest has; push another")
            first = apic_ids.flat(guest.cpus)[0]
            interpreted = system.kind is Kind.PAGETABLE
            entries = cpuid.for_vcpu(system.supported_cpuid(), first, interpreted, True, guest.nested)
            resumed.require_host(system, tuple(entries))
