"""What a store says of one snapshot: its file, part by part, by the SHA-256 of each chunk.

    line 1   "corral snapshot, manifest 1"
    line 2   the SHA-256 of the rest: the snapshot's digest, by which it is known
    rest     JSON: a StoreManifest

Chunks of zeros are in no list. `whole` is the SHA-256 of all chunks' with their places, so it stands for each byte.
"""

from __future__ import annotations

import hashlib
import json
import struct

from corral.errors import BootError
from corral.memory import PAGE
from corral.snapshot import values
from corral.startup.record import record
from corral.store import chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = b"corral snapshot, manifest 1\n"
FOLDER = "snapshots"
MOST = 64 << 20  # bytes of one: 60 GiB of memory that is not zero
MOST_FILE = 1 << 46  # bytes of a snapshot, most of which are holes
_LINE = 2 * chunks.DIGEST + 1


@record(frozen=True)
class Run:
    """Chunks one after the other, `first` being the number of the first in its part; `keys`: their SHA-256s."""

    first: int
    keys: bytes


@record(frozen=True)
class Part:
    """`length` bytes of the file, from `at` on, which is a multiple of 4 KiB."""

    at: int
    length: int
    runs: tuple[Run, ...]


@record(frozen=True)
class StoreManifest:
    """`saved`: when it was pushed, in seconds since 1970; `memory`, `size`: bytes of RAM and of the file; `chunk`:
    bytes of a chunk."""

    corral: str
    saved: int
    kind: str
    cpu: str
    memory: int
    cpus: int
    size: int
    chunk: int
    parts: tuple[Part, ...]
    whole: bytes


_RECORDS: dict[str, type] = {"Run": Run, "Part": Part, "StoreManifest": StoreManifest}


def name(snapshot: str) -> str:
    """Of its file in a store."""
    return f"{FOLDER}/{snapshot}"


def whole(parts: tuple[Part, ...]) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(struct.pack("<QQQ", part.at, part.length, len(part.runs)))
        for run in part.runs:
            found.update(struct.pack("<QQ", run.first, len(run.keys)) + run.keys)
    return found.digest()


def keys(manifest: StoreManifest) -> Iterator[tuple[int, int, bytes]]:
    """Of each chunk that is not zeros: where it is in the file, its length, its SHA-256."""
    for part in manifest.parts:
        for run in part.runs:
            for number in range(len(run.keys) // chunks.DIGEST):
                at = (run.first + number) * chunks.SIZE
                key = run.keys[number * chunks.DIGEST : (number + 1) * chunks.DIGEST]
                yield part.at + at, min(chunks.SIZE, part.length - at), key


def encode(manifest: StoreManifest) -> tuple[bytes, bytes]:
    """What goes into a store, and its digest."""
    rest = json.dumps(values.to_plain(manifest), separators=(",", ":")).encode()
    digest = hashlib.sha256(rest).digest()
    return _HEAD + digest.hex().encode() + b"\n" + rest, digest


def decode(data: bytes, what: str) -> tuple[StoreManifest, bytes]:
    """The manifest, and its digest. `what` is its name, for a message. Raises BootError."""

    def error(text: str) -> BootError:
        return BootError(f"snapshot {what!r}: {text}")

    if not data.startswith(_HEAD):
        raise error("is no manifest of this Corral's; see corral snapshot list, and push it again")
    if len(data) > MOST:
        raise error(f"its manifest has more than {MOST >> 20} MiB; push it again")
    line, rest = data[len(_HEAD) : len(_HEAD) + _LINE], data[len(_HEAD) + _LINE :]
    digest = hashlib.sha256(rest).digest()
    if line != digest.hex().encode() + b"\n":
        raise error("its manifest was changed or cut off in the store; push it again")
    try:
        found: StoreManifest = values.from_plain("StoreManifest", json.loads(rest), _RECORDS)
    except (ValueError, RecursionError):
        raise error("its manifest is no JSON; push it again") from None
    except BootError as bad:
        raise error(f"{bad}; push it again") from None
    if flaw := _flaw(found):
        raise error(f"its manifest makes no sense: {flaw}; push it again")
    return found, digest


def _flaw(manifest: StoreManifest) -> str:
    if manifest.chunk != chunks.SIZE:
        return f"chunks of {manifest.chunk} bytes"
    if not 0 < manifest.size <= MOST_FILE:
        return f"a file of {manifest.size} bytes"
    at = 0
    for part in manifest.parts:
        if part.at < at or part.at % PAGE or part.length <= 0 or part.at + part.length > manifest.size:
            return "parts that lie over each other"
        at, first, end = part.at + part.length, 0, -(-part.length // chunks.SIZE)
        for run in part.runs:
            count, rest = divmod(len(run.keys), chunks.DIGEST)
            if rest or not count or run.first < first or run.first + count > end:
                return "chunks that lie over each other"
            first = run.first + count
    return "" if manifest.whole == whole(manifest.parts) else "the sum of its chunks is another"
