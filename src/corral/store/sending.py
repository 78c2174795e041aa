"""A snapshot's file into a store."""

from __future__ import annotations

import os
import time

from corral import __version__
from corral.startup.record import record
from corral.store import address, chunks, kept, manifest, turns, workers
from corral.store.chunked import Chunked, Stretch
from corral.store.manifest import Part, Run, StoreManifest
from corral.store.place import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.store.place import Place


@record(frozen=True)
class Pushed:
    """`digest`: SHA-256 of the manifest, in hexadecimal digits; `chunks`: how many the snapshot has; `sent`: how many
    of them the store did not have; `bytes`: what those take there."""

    digest: str
    chunks: int
    sent: int
    bytes: int


def push(
    path: str | os.PathLike[str],
    url: str,
    whole: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Pushed:
    """Stores the snapshot in the file `path` as `url`, in place of what has that name there; what the store has already
    is sent with `whole` alone, which mends chunks that were damaged there. One that has a parent is whole there. The
    name is there when all of it is, and on the store's disk. Raises BootError for a file that is no snapshot,
    ConfigError, HostError."""
    to = address.of_snapshot(url)
    with Chunked(os.fspath(path)) as source:
        place = opened(to)
        with turns.pushing(place):
            return _push(source, place, to.name, whole, progress)


def _push(source: Chunked, place: Place, name: str, whole: bool, progress: Callable[[str], None]) -> Pushed:
    known = set[bytes]() if whole or place.is_near else kept.known(place)

    def send(item: tuple[Stretch, int]) -> tuple[bytes, int]:
        data = item[0].read(item[1])
        if chunks.is_zero(data):
            return b"", 0
        key = chunks.digest(data)
        file = chunks.name(key)
        if not whole and (key in known or place.has(file)):
            return key, 0
        packed = chunks.pack(data)
        place.write(file, packed)
        return key, len(packed)

    items = [(stretch, number) for stretch in source.stretches for number in stretch.numbers()]
    keys: dict[int, list[tuple[int, bytes]]] = {stretch.at: [] for stretch in source.stretches}
    fresh, total = dict[bytes, int](), 0
    for count, ((stretch, number), (key, size)) in enumerate(
        zip(items, workers.each(send, items, place.at_once), strict=True), 1
    ):
        progress(f"sending {name}, {100 * count // len(items)} %")
        if key:
            total += 1
            keys[stretch.at].append((number, key))
        if size:
            fresh[key] = size
    parts = tuple(Part(one.at, one.length, tuple(_runs(keys[one.at]))) for one in source.stretches)
    content = source.resumed.content
    guest, host = content.guest, content.host
    about = __version__, int(time.time()), host.kind, host.cpu, guest.memory, guest.cpus, source.size
    text, digest = manifest.encode(StoreManifest(*about, chunks.SIZE, parts, manifest.whole(parts)))
    if fresh:
        place.settle()
    place.write(manifest.name(name), text)
    place.settle()
    return Pushed(digest.hex(), total, len(fresh), sum(fresh.values()))


def _runs(keys: list[tuple[int, bytes]]) -> Iterator[Run]:
    """Of numbers that rise."""
    begin = 0
    for at in range(1, len(keys) + 1):
        if at == len(keys) or keys[at][0] != keys[at - 1][0] + 1:
            yield Run(keys[begin][0], b"".join(key for _, key in keys[begin:at]))
            begin = at
