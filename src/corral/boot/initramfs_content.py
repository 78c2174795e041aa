"""The names of what is in an initramfs: whether it has the drivers that a kernel wants.

Source: Documentation/driver-api/early-userspace/buffer-format.rst. Archives may follow one another, as a distribution's
microcode and its files do, the last of them compressed.
"""

from __future__ import annotations

import time

from corral.errors import CorralError
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.file import ImageFile

# Beyond these it is not told what is in an initramfs: to look must cost less than it saves.
MAX_UNPACKED = 512 << 20
_MOST = 100_000  # headers, trailers too
_MOST_TEXT = 16 << 20  # bytes of names
_PATIENCE = 1.5  # seconds of CPU time
_CPIO = (b"070701", b"070702")
_HEADER = 110
_LONGEST_NAME = 4096
_PIECE = 1 << 20
_PADDING = 4096  # zeros that are looked for at a time
_END = "TRAILER!!!"


class Content:
    """`names` are paths without a leading slash; `packing` is a compression's name, "" for none."""

    def __init__(self, names: frozenset[str], packing: str) -> None:
        self.names, self.packing = names, packing
        self._modules = {_module(name) for name in names if ".ko" in name}

    def has_module(self, name: str) -> bool:
        return name.replace("-", "_") in self._modules


def _module(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def read(file: ImageFile) -> Content | None:
    """None when it cannot be told: damaged, another format, too large, a library missing."""
    try:
        return _read(file)
    except (Flaw, CorralError):
        return None


def _read(file: ImageFile) -> Content | None:
    from corral.files import decompress

    names = _Names()
    stream = _Stream(_plain(file))
    while stream.skip_zeros():
        if stream.peek(6) in _CPIO:
            _walk(stream, names)
            continue
        form = decompress.identify(stream.peek(decompress.MAGIC_SIZE))
        if form is None or not form.packs:
            return None
        source = decompress.Source(file.read, stream.position, file.size - stream.position)
        inner = _Stream(decompress.unpack(form, source))
        while inner.skip_zeros():
            if inner.peek(6) not in _CPIO:
                return None
            _walk(inner, names)
        return Content(frozenset(names.found), form.name) if names.found else None
    return Content(frozenset(names.found), "") if names.found else None


class _Names:
    """Raises Flaw when there are too many."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._headers = self._text = 0

    def count_header(self, name_size: int) -> None:
        self._headers += 1
        self._text += name_size
        if self._headers > _MOST or self._text > _MOST_TEXT:
            raise Flaw("has too many files")


def _plain(file: ImageFile) -> Iterator[bytes]:
    for at in range(0, file.size, _PIECE):
        yield file.read(at, min(_PIECE, file.size - at))


class _Stream:
    """Bytes that come in pieces; `position` counts them. Raises Flaw when they end too early, or never."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer, self._at = b"", 0
        self._until = time.thread_time() + _PATIENCE
        self.position = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        while len(self._buffer) - self._at < size and (piece := next(self._pieces, b"")):
            self._buffer, self._at = self._buffer[self._at :] + piece, 0
            if time.thread_time() > self._until:
                raise Flaw("takes too long to look through")
        return self._buffer[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        data = self.peek(size)
        if len(data) < size:
            raise Flaw("is cut off")
        self._advance(size)
        return data

    def skip(self, size: int) -> None:
        while size and self.peek(1):
            step = min(size, len(self._buffer) - self._at)
            self._advance(step)
            size -= step
        if size:
            raise Flaw("is cut off")

    def align(self) -> None:
        self.skip(min(-self.position % 4, len(self.peek(3))))

    def skip_zeros(self) -> bool:
        """To the next byte that is not zero; False at the end."""
        while piece := self.peek(_PADDING):
            rest = len(piece.lstrip(b"\0"))
            self._advance(len(piece) - rest)
            if rest:
                return True
        return False

    def _advance(self, size: int) -> None:
        self._at += size
        self.position += size
        if self.position > MAX_UNPACKED:
            raise Flaw("is too large")


def _walk(stream: _Stream, names: _Names) -> None:
    """Adds the names of one archive, to its trailer."""
    while True:
        header = stream.take(_HEADER)
        if not header.startswith(_CPIO) or not header.isalnum():
            raise Flaw("has a damaged cpio header")
        try:
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        except ValueError:
            raise Flaw("has a damaged cpio header") from None
        if not 0 < name_size <= _LONGEST_NAME:
            raise Flaw("has a damaged cpio header")
        names.count_header(name_size)
        name = stream.take(name_size).partition(b"\0")[0].decode(errors="replace")
        stream.align()
        if name == _END:
            return
        names.found.add(name.removeprefix("./").removeprefix("/"))
        stream.skip(size)
        stream.align()
