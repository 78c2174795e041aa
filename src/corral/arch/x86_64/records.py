"""Binary structures as classes: each field has a name, an offset and a width, written down once."""

from __future__ import annotations

import struct


class Field:
    """One little-endian unsigned integer of a Record, at the offset that its specification gives it."""

    __slots__ = ("_codec", "_offset")

    def __init__(self, offset: int, code: str) -> None:
        self._offset = offset
        self._codec = struct.Struct("<" + code)

    def __get__(self, record: Record, owner: type[Record]) -> int:
        value: int = self._codec.unpack_from(record.data, self._offset)[0]
        return value

    def __set__(self, record: Record, value: int) -> None:
        self._codec.pack_into(record.data, self._offset, value)


def u8(offset: int) -> Field:
    return Field(offset, "B")


def u16(offset: int) -> Field:
    return Field(offset, "H")


def u32(offset: int) -> Field:
    return Field(offset, "I")


def u64(offset: int) -> Field:
    return Field(offset, "Q")


class Record:
    """SIZE bytes with named fields, which a subclass lists. Data that is too short is filled with zeros."""

    SIZE = 0
    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(self.SIZE)
        self.data[: len(data)] = data[: self.SIZE]
