"""The symbols that a Linux kernel carries in itself, for its own oopses: /proc/kallsyms, read from the image.

Source: scripts/kallsyms.c. Each byte of a name stands for one of 256 tokens. The tables lie one behind the other,
aligned to 8 bytes, and are found by what is in them: the tokens of the digits stand for themselves. The kernel is a
file from anywhere: no number in it is trusted, and a search that takes too long is given up.
"""

from __future__ import annotations

import struct
from operator import itemgetter

from corral.files.file import Flaw
from corral.symbols.names import LONGEST, MOST, Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Row = tuple[int, str, str]  # address, kind as nm tells it, name
Image = bytes | bytearray

_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_TOKENS = 256
_LONGEST_TABLE = 8192  # bytes of tokens
_PER_MARKER = 256  # names
_FARTHEST = 1 << 20  # bytes from the markers to the tokens, with three bytes a symbol between them
_LINUX_TEXT = 0xFFFFFFFF80000000
# Steps of a search, of which one is about a quarter of a microsecond. Of a distribution's kernel it takes 600,000.
_MOST_STEPS = 2_500_000
_BYTES_A_STEP = 256  # where they are only searched for others


class Search:
    """One for all segments of a kernel: what one costs the others have not."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def find(self, image: Image) -> list[Row]:
        """All symbols in the bytes of a kernel, by address; [] when there are none that can be read. Raises Flaw when
        it would take too long, or when there are too many."""
        self._count_steps(len(image) // _BYTES_A_STEP)
        at = image.find(_DIGITS)
        while at >= 0:
            if (tokens := self._tokens(image, at)) and (rows := self._rows(image, *tokens)):
                return sorted(rows, key=itemgetter(0))
            at = image.find(_DIGITS, at + 1)
        return []

    def _count_steps(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise Flaw("has what looks like symbols and is not, too often to look through all of it")

    def _tokens(self, image: Image, digits: int) -> tuple[int, int, list[bytes]] | None:
        """Where the table of tokens begins, where its index ends, and the tokens; `digits`: where "0" is in it."""
        start = digits
        self._count_steps(ord("0"))
        for _ in range(ord("0")):  # back over the tokens before it
            start = image.rfind(b"\0", max(0, start - 64), start - 1) + 1
            if start <= 0:
                return None
        # The first token has the zero that ends what is before it, or fills up to the table's alignment.
        for first in range(start & ~7, max(0, start - 64), -8):
            self._count_steps(2 * _TOKENS)
            found = _indexed(image, first)
            if found:
                return first, *found
        return None

    def _rows(self, image: Image, table: int, index_end: int, tokens: list[bytes]) -> list[Row]:
        # Since 6.2, and in some 6.1, three bytes a symbol lie between: their order by name.
        for markers in range(table - 8, max(0, table - 4 * _FARTHEST), -8):
            self._count_steps(1)
            if image[markers : markers + 4] != b"\0\0\0\0":
                continue
            for names, count in self._names_before(image, markers):
                parsed = self._parse(image, names, count, markers, tokens)
                if parsed and (addresses := self._addresses(image, names, index_end, count)):
                    return [(address, kind, name) for address, (kind, name) in zip(addresses, parsed, strict=True)]
        return []

    def _names_before(self, image: Image, markers: int) -> Iterator[tuple[int, int]]:
        """Where the names may begin, which end before `markers`, and how many they are: that is 8 bytes before."""
        second = int.from_bytes(image[markers + 4 : markers + 8], "little")
        if not _PER_MARKER * 2 <= second <= _PER_MARKER * LONGEST:
            return
        for count_at in range(markers - 16, max(0, markers - 64 * MOST), -8):
            self._count_steps(1)
            count = int.from_bytes(image[count_at : count_at + 8], "little")
            # Names take 2 to some 40 bytes each, so the number says about how far the markers are.
            if _PER_MARKER < count <= MOST and 2 * count <= markers - count_at <= 64 * count:
                last = markers + 4 * ((count - 1) // _PER_MARKER)
                offset = int.from_bytes(image[last : last + 4], "little")
                if offset < markers - count_at - 8 <= offset + _PER_MARKER * LONGEST:
                    yield count_at + 8, count

    def _parse(self, image: Image, at: int, count: int, markers: int, tokens: list[bytes]) -> list[tuple[str, str]]:
        """Kind and name of each symbol; [] when the names do not agree with their markers."""
        start, found, names = at, [], Names(count)
        for number in range(count):
            if number % _PER_MARKER == 0:
                place = markers + number // _PER_MARKER * 4
                if int.from_bytes(image[place : place + 4], "little") != at - start:
                    return []
            length = image[at]
            at += 1
            if length & 0x80:  # since 6.1: two bytes
                length = length & 0x7F | image[at] << 7
                at += 1
            self._count_steps(4 + length // 8)
            if not length or at + length > markers:
                return []
            text = names.text(b"".join([tokens[byte] for byte in image[at : at + length]]))
            found.append((text[:1], text[1:]))
            at += length
        return found

    def _addresses(self, image: Image, names: int, index_end: int, count: int) -> list[int]:
        """From offsets to a base; both lie before the number of names, or since 6.4 behind the tokens' index."""
        self._count_steps(count)
        size = -(-4 * count // 8) * 8
        before = names - 16 - size
        for offsets, base_at in ((before, before + size), (-(-index_end // 8) * 8, -(-index_end // 8) * 8 + size)):
            base = int.from_bytes(image[base_at : base_at + 8], "little")
            if offsets < 0 or base < _LINUX_TEXT:
                continue
            # With several CPUs: what is not negative is an address in a CPU's area, from 0 on.
            values = struct.unpack_from(f"<{count}i", image, offsets)
            if any(value < 0 for value in values):
                addresses = [value if value >= 0 else base - 1 - value for value in values]
            else:
                addresses = [base + value for value in values]
            if max(addresses) < 1 << 64:
                return addresses
        return []


def _indexed(image: Image, first: int) -> tuple[int, list[bytes]] | None:
    """Where the index behind a table at `first` ends, and the tokens, when the index is that of this table."""
    offsets, tokens, at = [], [], first
    for _ in range(_TOKENS):
        end = image.find(b"\0", at, first + _LONGEST_TABLE)
        if end < 0:
            return None
        offsets.append(at - first)
        tokens.append(bytes(image[at:end]))
        at = end + 1
    index = -(-at // 8) * 8
    table = struct.pack(f"<{_TOKENS}H", *offsets)
    return (index + len(table), tokens) if image[index : index + len(table)] == table else None
