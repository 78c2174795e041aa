"""The section headers of an ELF file (System V ABI, "Sections"). They are a help and never a condition of booting."""

from __future__ import annotations

import struct

from corral.files import magic
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile

SYMBOLS, STRINGS = 2, 3  # kinds: SHT_SYMTAB, SHT_STRTAB
ALLOCATED, EXECUTABLE = 2, 4  # flags: SHF_ALLOC, SHF_EXECINSTR
_IDENT = 5  # bytes, the last of which is the class: 1 for 32 bits, 2 for 64
# Where the table is; the size of an entry, their number, the number of the section that names all.
_HEADERS = {1: struct.Struct("<32xI10xHHH"), 2: struct.Struct("<40xQ10xHHH")}
_SECTIONS = {1: struct.Struct("<IIIIIIIIII"), 2: struct.Struct("<IIQQQQIIQQ")}


@record(frozen=True)
class Section:
    """A header's first fields. Nothing in it is checked but that its content is in the file, where it has some there:
    see `holds`."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int  # the number of another section: of symbols, that of their names


@record(frozen=True)
class SectionTable:
    """`names` is the number of the section that has the names of all; `rows` are the headers as they are."""

    bits: int
    names: int
    sections: tuple[Section, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def entry_size(self) -> int:
        return _SECTIONS[self.bits // 32].size

    def placed(self, addresses: dict[int, int]) -> bytes:
        """The table as bytes, with these addresses of the sections by their numbers."""
        address = 3  # its number among the fields
        pack = _SECTIONS[self.bits // 32].pack
        return b"".join(
            pack(*row[:address], addresses.get(number, row[address]), *row[address + 1 :])
            for number, row in enumerate(self.rows)
        )


def read(file: ImageFile, most: int) -> SectionTable | None:
    """None where there is no such table, none that can be, or one of more than `most` sections."""
    head = file.head(_IDENT)
    kind = head[4] if len(head) == _IDENT and head.startswith(magic.ELF) else 0
    if kind not in _HEADERS or file.size < _HEADERS[kind].size:
        return None
    header, section = _HEADERS[kind], _SECTIONS[kind]
    start, entry_size, count, names = header.unpack(file.read(0, header.size))
    size = count * entry_size
    if entry_size != section.size or not 0 < count <= most or start + size > file.size:
        return None
    rows = tuple(section.iter_unpack(file.read(start, size)))
    return SectionTable(32 * kind, names, tuple(Section(*row[1:7]) for row in rows), rows)
