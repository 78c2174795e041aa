"""A kernel as it lies in memory when it is loaded where it is linked, and the symbols that it carries in itself."""

from __future__ import annotations

from bisect import bisect

from corral.boot.pieces import Piece
from corral.injection.unfit import Check, UnfitError
from corral.symbols import table
from corral.symbols.kernel_image import KernelImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT = 0xFFFFFFFF80000000  # addresses below are of a CPU's own area
_LARGEST_FUNCTION = 1 << 16


class LinkedKernel:
    """A context manager. Raises UnfitError for a kernel without symbols, BootError for what is no kernel, HostError
    where a library to unpack it is missing."""

    def __init__(self, path: str) -> None:
        self._image = KernelImage(path)
        try:
            rows = table.rows_of_image(self._image)
            if not rows:
                raise UnfitError(Check.SYMBOLS, "it carries no symbols")
        except BaseException:
            self._image.close()
            raise
        self.places = {name: address for address, _, name in reversed(rows)}  # of several by a name, the first
        self._starts = [address for address, _, _ in rows]
        self._names = [name for _, _, name in rows]

    def __enter__(self) -> LinkedKernel:
        return self

    def __exit__(self, *exception: object) -> None:
        self._image.close()

    def address(self, name: str) -> int:
        """Raises UnfitError for a symbol that it does not have."""
        if name not in self.places:
            raise UnfitError(Check.SYMBOLS, f"it has no symbol {name}")
        return self.places[name]

    def read(self, address: int, length: int) -> bytes:
        """Raises UnfitError where the file has not so much."""
        physical = self.physical(address)
        segment = next(found for found in self._image.elf.segments if found.physical <= physical < found.end)
        offset = physical - segment.physical
        if offset + length > segment.file_size:
            raise UnfitError(Check.FILE, f"its file ends before {address + length:#x}")
        return self._image.file.read(segment.offset + offset, length)

    def physical(self, address: int) -> int:
        """Where an address of its text or data is loaded."""
        for segment in self._image.elf.segments:
            if segment.virtual >= _TEXT and segment.virtual <= address < segment.virtual + segment.memory_size:
                return segment.physical + address - segment.virtual
        raise UnfitError(Check.FILE, f"its file has nothing at {address:#x}")

    def function(self, name: str) -> tuple[int, bytes]:
        """The address and the bytes of a function, up to the next symbol."""
        start = self.address(name)
        after = bisect(self._starts, start)
        end = self._starts[after] if after < len(self._starts) else start + _LARGEST_FUNCTION + 1
        if end - start > _LARGEST_FUNCTION:
            raise UnfitError(Check.CODE, f"its {name} is too long")
        return start, self.read(start, end - start)

    def name(self, address: int) -> str:
        """Of the function that an address is in."""
        at = bisect(self._starts, address) - 1
        return self._names[at] if at >= 0 else ""

    def between(self, first: str, end: str) -> Iterator[tuple[int, bytes]]:
        """The address and the bytes of a table between two symbols; nothing where it has no such table."""
        if first in self.places and end in self.places and self.places[first] < self.places[end]:
            start = self.places[first]
            yield start, self.read(start, self.places[end] - start)

    def replaced(self, address: int, new: bytes) -> Piece:
        return Piece(self.physical(address), self.read(address, len(new)), new)
