"""New inputs from old ones: a few random changes each. The same seed and the same inputs give the same changes."""

from __future__ import annotations

import random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Where integers go wrong: as 1, 2 and 4 bytes.
_BYTES = (0, 1, 16, 32, 64, 100, 127, 128, 255)
_WORDS = (*_BYTES, 256, 512, 1000, 1024, 4096, 32767, 32768, 65535)
_LONGS = (*_WORDS, 65536, 100663045, 2147483647, 2147483648, 4294967295)
_NUMBERS = ((1, _BYTES), (2, _WORDS), (4, _LONGS))
_LONGEST_BLOCK = 128
_MOST_CHANGES = 16
_WALKED = 32


def walk(data: bytes) -> Iterator[bytes]:
    """Each of the first bytes with each other value: what a comparison of one byte waits for is among them."""
    for at in range(min(len(data), _WALKED)):
        for value in range(256):
            if value != data[at]:
                yield data[:at] + bytes([value]) + data[at + 1 :]


class Mutator:
    """`room`: how long an input may be, in bytes."""

    def __init__(self, seed: int, room: int) -> None:
        self._random = random.Random(seed)
        self._below = self._random.randrange
        self._room = room
        self._ways: tuple[Callable[[bytearray, Sequence[bytes]], None], ...] = (
            self._flip,
            self._byte,
            self._byte,
            self._step,
            self._number,
            self._number,
            self._delete,
            self._repeat,
            self._insert,
            self._copy,
            self._splice,
        )

    def choose(self, corpus: Sequence[bytes]) -> bytes:
        """One to change: half of the time of the newest eighth."""
        count = len(corpus)
        first = count - count // 8 - 1 if self._below(2) else 0
        return corpus[self._below(first, count)]

    def changed(self, data: bytes, corpus: Sequence[bytes]) -> bytes:
        """`data` with 1, 2, 4, 8 or 16 changes, some of them by parts of others."""
        new = bytearray(data)
        for _ in range(min(1 << self._below(5), _MOST_CHANGES)):
            if new:
                self._ways[self._below(len(self._ways))](new, corpus)
            else:
                self._insert(new, corpus)
        return bytes(new[: self._room])

    def _flip(self, data: bytearray, _: Sequence[bytes]) -> None:
        bit = self._below(len(data) * 8)
        data[bit >> 3] ^= 1 << (bit & 7)

    def _byte(self, data: bytearray, _: Sequence[bytes]) -> None:
        data[self._below(len(data))] = self._below(256)

    def _step(self, data: bytearray, _: Sequence[bytes]) -> None:
        at = self._below(len(data))
        data[at] = data[at] + self._below(-35, 36) & 255

    def _number(self, data: bytearray, _: Sequence[bytes]) -> None:
        size, values = _NUMBERS[self._below(3)]
        if len(data) >= size:
            at = self._below(len(data) - size + 1)
            value = values[self._below(len(values))]
            data[at : at + size] = value.to_bytes(size, "big" if self._below(2) else "little")

    def _delete(self, data: bytearray, _: Sequence[bytes]) -> None:
        at, length = self._block(len(data))
        del data[at : at + length]

    def _repeat(self, data: bytearray, _: Sequence[bytes]) -> None:
        at, length = self._block(len(data))
        where = self._below(len(data) + 1)
        if len(data) + length <= self._room:
            data[where:where] = data[at : at + length]

    def _insert(self, data: bytearray, _: Sequence[bytes]) -> None:
        length = 1 + self._below(8 if self._below(4) else _LONGEST_BLOCK)
        where = self._below(len(data) + 1)
        if len(data) + length <= self._room:
            value = self._below(256)
            data[where:where] = bytes([value]) * length if self._below(2) else self._random.randbytes(length)

    def _copy(self, data: bytearray, _: Sequence[bytes]) -> None:
        at, length = self._block(len(data))
        where = self._below(len(data))
        part = data[at : at + length][: len(data) - where]
        data[where : where + len(part)] = part

    def _splice(self, data: bytearray, corpus: Sequence[bytes]) -> None:
        """The beginning of this, the end of another."""
        other = corpus[self._below(len(corpus))]
        if other:
            data[self._below(len(data)) :] = other[self._below(len(other)) :]
            del data[self._room :]

    def _block(self, size: int) -> tuple[int, int]:
        length = 1 + self._below(min(size, _LONGEST_BLOCK))
        return self._below(size - length + 1), length
