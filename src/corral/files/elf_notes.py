"""The build ID among an ELF file's notes (System V ABI, "Note Section"; NT_GNU_BUILD_ID of binutils)."""

from __future__ import annotations

import re
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile

# The length of the owner's name, of the content, the kind of note, the owner.
_HEAD = re.compile(rb"\x04\0\0\0([\x01-\x40])\0\0\0\x03\0\0\0GNU\0", re.DOTALL)
_HEADER = struct.Struct("<32xQ14xHH")  # of a file of 64 bits: where its program headers are, their size, their number
_SEGMENT = struct.Struct("<I4xQ16xQ")
_NOTES = 4  # PT_NOTE
_MOST_NOTES = 1 << 16  # bytes
_MOST_HEADERS = 64


def build_id(data: bytes) -> tuple[int, int] | None:
    """(offset, length) of the first one in what holds notes; None where there is none."""
    found = _HEAD.search(data)
    if found is None or found.end() + found[1][0] > len(data):
        return None
    return found.end(), found[1][0]


def build_id_of(file: ImageFile) -> tuple[int, bytes] | None:
    """(offset in the file, build ID) of an ELF file of 64 bits, by its segment of notes; None where it has none."""
    head = file.head(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    table, size, count = _HEADER.unpack(head)
    if size < _SEGMENT.size or count > _MOST_HEADERS or table + size * count > file.size:
        return None
    for number in range(count):
        kind, offset, length = _SEGMENT.unpack(file.read(table + number * size, _SEGMENT.size))
        if kind == _NOTES and offset + length <= file.size:
            notes = file.read(offset, min(length, _MOST_NOTES))
            if found := build_id(notes):
                return offset + found[0], notes[found[0] : sum(found)]
    return None
