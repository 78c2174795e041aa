"""The sections of an ELF kernel in its own memory: how one that is entered by Multiboot finds its symbols.

Source: System V ABI, "Sections"; the Multiboot Specification, `syms`. They are a help to a kernel and never a
condition, so what is wrong with them is no error: then they are not told of.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import layout
from corral.boot.modules import find_place
from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

MOST = 256  # sections: of a kernel with one a function there are more, and it does without
MAX_LOADED = 64 << 20  # bytes of symbols and their names
_SYMBOLS, _STRINGS = 2, 3
_ALLOCATED = 2
_HEADER32 = struct.Struct("<32xI10xHHH")  # where the table is; the size of an entry, their number, that of the names
_HEADER64 = struct.Struct("<40xQ10xHHH")
_SECTION32 = struct.Struct("<IIIIIIIIII")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_SECTION64 = struct.Struct("<IIQQQQIIQQ")


@record(frozen=True)
class Sections:
    """The table as a kernel is given it, with addresses in its memory; `names` is the number of the section that has
    the names of all."""

    count: int
    entry_size: int
    names: int
    table: bytes


def load(file: ImageFile, bits: int, memory: GuestMemory, taken: list[tuple[int, int]]) -> Sections | None:
    """Puts symbols and strings that no segment has into the lowest pages beside `taken`, to which they are added."""
    header, section = (_HEADER64, _SECTION64) if bits == 64 else (_HEADER32, _SECTION32)
    if file.size < header.size:
        return None
    start, entry_size, count, names = header.unpack(file.read(0, header.size))
    end = start + count * entry_size
    if entry_size != section.size or not 0 < count <= MOST or end > file.size or names >= count:
        return None
    table = bytearray(file.read(start, count * entry_size))
    places = []
    for at in range(0, len(table), entry_size):
        _, kind, flags, address, offset, size, *_ = section.unpack_from(table, at)
        if kind in (_SYMBOLS, _STRINGS) and not flags & _ALLOCATED and not address and size:
            if offset + size > file.size:
                return None
            places.append((at, offset, size))
    if sum(size for _, _, size in places) > MAX_LOADED:
        return None
    for at, offset, size in places:
        try:
            address = find_place(memory, size, taken)
        except Flaw:  # a kernel without symbols runs where one with them does not
            return None
        file.read_into(offset, memory.view(address, size))
        taken.append((address, -(-(address + size) // layout.PAGE_SIZE) * layout.PAGE_SIZE))
        fields = list(section.unpack_from(table, at))
        fields[3] = address
        section.pack_into(table, at, *fields)
    return Sections(count, entry_size, names, bytes(table))
