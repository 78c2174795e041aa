"""A chunk: 64 KiB of a snapshot, by its SHA-256, packed where that pays.

The size is a compromise that `python -m benchmarks store` shows: half of it stores a third less of the next snapshot of
a guest, and takes twice as many files.
"""

from __future__ import annotations

import hashlib
import sys

from corral.errors import HostError
from corral.memory import PAGE

SIZE = 64 << 10  # bytes; the last of a part may be shorter
DIGEST = 32  # bytes
FOLDER = "chunks"
MOST = SIZE + 1  # bytes of one in a store
_PLAIN, _ZSTD = b"\0", b"\1"
_LEVEL = 1
_PAYS = 15 / 16  # of its size; else it is stored as it is
_ZEROS = bytes(SIZE)


class Damaged(Exception):
    """A chunk that is not what its name says."""


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def is_zero(data: bytes) -> bool:
    return data == _ZEROS[: len(data)]


def name(key: bytes) -> str:
    """Of its file in a store."""
    text = key.hex()
    return f"{FOLDER}/{text[:2]}/{text}"


def pages(data: bytes) -> list[tuple[int, int]]:
    """Runs of pages that are not zero: where they begin and end, in bytes."""
    found: list[tuple[int, int]] = []
    for at in range(0, len(data), PAGE):
        end = min(at + PAGE, len(data))
        if data[at:end] == _ZEROS[: end - at]:
            continue
        if found and found[-1][1] == at:
            found[-1] = found[-1][0], end
        else:
            found.append((at, end))
    return found


def pack(data: bytes) -> bytes:
    """What a store has of it. Raises HostError."""
    packed = _compress(data)
    return _ZSTD + packed if len(packed) < len(data) * _PAYS else _PLAIN + data


def unpack(stored: bytes, key: bytes, length: int) -> bytes:
    """The chunk with the SHA-256 `key`, of `length` bytes. Raises Damaged, HostError."""
    kind, rest = stored[:1], stored[1:]
    if len(stored) > MOST or kind not in (_PLAIN, _ZSTD):
        raise Damaged
    data = rest if kind == _PLAIN else _decompress(rest, length)
    if len(data) != length or digest(data) != key:
        raise Damaged
    return data


def _compress(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(data, _LEVEL)
    return bytes(_zstandard().ZstdCompressor(level=_LEVEL).compress(data))


def _decompress(packed: bytes, length: int) -> bytes:
    """At most `length` bytes. Raises Damaged."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        try:
            return zstd.ZstdDecompressor().decompress(packed, max_length=length)
        except (zstd.ZstdError, EOFError):
            raise Damaged from None
    zstandard = _zstandard()
    try:
        if zstandard.frame_content_size(packed) != length:  # the frame's word is what would be allocated
            raise Damaged
        return bytes(zstandard.ZstdDecompressor().decompress(packed))
    except zstandard.ZstdError:
        raise Damaged from None


if sys.version_info < (3, 14):
    from types import ModuleType

    def _zstandard() -> ModuleType:
        try:
            import zstandard
        except ImportError:
            raise HostError("chunks of a store need zstd; install it: pip install zstandard") from None
        return zstandard
