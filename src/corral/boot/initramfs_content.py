"""The names of what is in an initramfs: whether it has the drivers that a kernel wants.

Source: Documentation/driver-api/early-userspace/buffer-format.rst. Archives may follow one another, as a distribution's
microcode and its files do, the last of them compressed.
"""

from __future__ import annotations

import time

from corral.errors import CorralError
from corral.files import cpio, magic
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.file import ImageFile

# Beyond these it is not told what is in an initramfs: to look must cost less than it saves.
MAX_UNPACKED = 512 << 20
_MOST = 100_000  # headers, trailers too
_MOST_TEXT = 16 << 20  # characters of names
_PATIENCE = 1.5  # seconds of CPU time
_PIECE = 1 << 20


class InitramfsContent:
    """`names` are paths without a leading slash; `packing` is a compression's name, "" for none."""

    def __init__(self, names: frozenset[str], packing: str) -> None:
        self.names, self.packing = names, packing
        self._modules = {_module(name) for name in names if ".ko" in name}

    def has_module(self, name: str) -> bool:
        return name.replace("-", "_") in self._modules


def _module(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def read(file: ImageFile) -> InitramfsContent | None:
    """None when it cannot be told: damaged, another format, too large, a library missing."""
    try:
        return _read(file)
    except (Flaw, CorralError):
        return None


def _read(file: ImageFile) -> InitramfsContent | None:
    from corral.files import decompress
    from corral.files.stream import Stream

    names = _Names()
    stream = Stream(_bounded(_plain(file)))
    while stream.skip_zeros():
        if stream.peek(6) in magic.CPIO:
            names.take(cpio.names(stream))
            continue
        form = decompress.identify(stream.peek(decompress.MAGIC_SIZE))
        if form is None or not form.packs:
            return None
        source = decompress.Source(file.read, stream.position, file.size - stream.position)
        inner = Stream(_bounded(decompress.unpack(form, source)))
        while inner.skip_zeros():
            if inner.peek(6) not in magic.CPIO:
                return None
            names.take(cpio.names(inner))
        return InitramfsContent(frozenset(names.found), form.name) if names.found else None
    return InitramfsContent(frozenset(names.found), "") if names.found else None


class _Names:
    """Raises Flaw when there are too many."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._headers = self._text = 0

    def take(self, names: Iterator[str]) -> None:
        """Of one archive."""
        for name in names:
            self._headers += 1
            self._text += len(name)
            if self._headers > _MOST or self._text > _MOST_TEXT:
                raise Flaw("has too many files; leave some out")
            if name not in ("", cpio.TRAILER):
                self.found.add(name.removeprefix("./").removeprefix("/"))


def _plain(file: ImageFile) -> Iterator[bytes]:
    for at in range(0, file.size, _PIECE):
        yield file.read(at, min(_PIECE, file.size - at))


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Raises Flaw when there is no end to them."""
    until = time.thread_time() + _PATIENCE
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_UNPACKED or time.thread_time() > until:
            raise Flaw("is too large to look through; use a smaller one")
        yield piece
