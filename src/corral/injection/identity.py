"""Which kernel a vmlinux is: the build ID that the linker left in it (elf(5), "Notes"), or else all of its content."""

from __future__ import annotations

import struct

from corral.files import elf
from corral.files.file import ImageFile

_GNU_BUILD_ID = struct.pack("<III4s", 4, 20, 3, b"GNU")
_SIZE = 20
_NOTE = 4  # PT_NOTE
_HEADER = struct.Struct("<32xQ14xHH")  # where the program headers are, the size of one, their number
_SEGMENT = struct.Struct("<I4xQ16xQ16x")  # type, offset, size in the file
_PIECE = 1 << 20


def of(path: str) -> bytes:
    """Raises BootError for a file that cannot be read."""
    with ImageFile(path, "kernel") as file:
        return _build_id(file) or _digest(file)


def _build_id(file: ImageFile) -> bytes:
    head = file.head(elf.HEAD)
    if not head.startswith(elf.MAGIC) or len(head) < _HEADER.size:
        return b""
    table, size, count = _HEADER.unpack_from(head)
    if size != _SEGMENT.size or table + size * count > len(head):
        return b""
    for kind, offset, length in _SEGMENT.iter_unpack(head[table : table + size * count]):
        if kind == _NOTE and offset + length <= file.size:
            notes = file.read(offset, min(length, elf.MAX_NOTES))
            at = notes.find(_GNU_BUILD_ID)
            if 0 <= at <= len(notes) - len(_GNU_BUILD_ID) - _SIZE:
                return notes[at + len(_GNU_BUILD_ID) :][:_SIZE]
    return b""


def _digest(file: ImageFile) -> bytes:
    from hashlib import sha256

    digest = sha256()
    for at in range(0, file.size, _PIECE):
        digest.update(file.read(at, min(_PIECE, file.size - at)))
    return digest.digest()
