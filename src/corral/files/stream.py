"""Bytes that come in pieces, as a decompressor gives them, read from their start to their end."""

from __future__ import annotations

from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.file import ImageFile

_PADDING = 4096  # zeros that are looked for at a time
_TAIL = 64 << 20


class Stream:
    """`position` counts the bytes from the start. Raises Flaw when they end too early, and what `pieces` raises."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.position = 0

    def piece(self, most: int) -> memoryview:
        """Some of the next bytes, `most` or fewer; none only at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return self._rest
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        self.position += len(taken)
        return taken

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; they are still to be read. For what is small."""
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest = memoryview(bytes(self._rest) + piece)
        return bytes(self._rest[:size])

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. For what is small."""
        parts = []
        while size and (piece := self.piece(size)):
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise ends_early()
        return data

    def skip(self, size: int) -> None:
        while size:
            piece = self.piece(size)
            if not piece:
                raise ends_early()
            size -= len(piece)

    def align(self) -> None:
        """To a multiple of 4 bytes, or to the end if that comes before."""
        self.read(-self.position % 4)

    def skip_zeros(self) -> bool:
        """To the next byte that is not zero; False at the end."""
        while piece := self.peek(_PADDING):
            rest = len(piece.lstrip(b"\0"))
            self.skip(len(piece) - rest)
            if rest:
                return True
        return False

    def finish(self) -> None:
        """Reads what is behind an archive's end, where the checksums of the compression are."""
        left = _TAIL
        while left > 0 and (piece := self.piece(left)):
            left -= len(piece)


def unpacked(file: ImageFile) -> Stream:
    """What is in `file`, by whatever it is compressed. Raises Flaw, HostError."""
    from corral.files import decompress, magic

    source = decompress.Source(file.read, 0, file.size)
    form = decompress.FORMATS.get(magic.compression(file.head(decompress.MAGIC_SIZE)))
    return Stream(decompress.unpack(form, source, streams=True) if form else decompress.stored(source))


def ends_early() -> Flaw:
    return Flaw("ends too early; download or make it again")
