"""The symbols that an ELF file was linked with, if they were not stripped from it (System V ABI, "Symbol Table")."""

from __future__ import annotations

import struct
from operator import itemgetter

from corral.files import elf_sections
from corral.files.elf_sections import EXECUTABLE, SYMBOLS
from corral.symbols.names import LONGEST, Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile

Row = tuple[int, str, str]  # address, kind as nm tells it, name

_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_OBJECT, _FUNCTION, _SECTION, _FILE = 1, 2, 3, 4  # types of symbols
_MOST_SECTIONS, _LARGEST = 1 << 12, 256 << 20


def find(file: ImageFile) -> list[Row]:
    """By address; [] when it is no ELF file, has none, or none that can be read. Raises Flaw for too many."""
    table = elf_sections.read(file, _MOST_SECTIONS)
    for section in table.sections if table else ():
        if table and section.kind == SYMBOLS and section.link < len(table.sections):
            strings = table.sections[section.link]
            ends = section.offset + section.size, strings.offset + strings.size
            if max(ends) <= file.size and section.size + strings.size <= _LARGEST:
                symbols, names = file.read(section.offset, section.size), file.read(strings.offset, strings.size)
                code = {number for number, one in enumerate(table.sections) if one.flags & EXECUTABLE}
                return sorted(_symbols(symbols, names, table.bits, code), key=itemgetter(0))
    return []


def _symbols(symbols: bytes, names: bytes, bits: int, code: set[int]) -> list[Row]:
    entry = struct.Struct("<IBBHQQ" if bits == 64 else "<IIIBBH")
    bounded = Names(len(symbols) // entry.size)
    rows = []
    for fields in entry.iter_unpack(symbols[: len(symbols) // entry.size * entry.size]):
        name, info, section, value = (
            (fields[0], fields[1], fields[3], fields[4]) if bits == 64 else (fields[0], fields[3], fields[5], fields[1])
        )
        kind, end = info & 15, names.find(b"\0", name, name + LONGEST + 1)
        text = bounded.text(names[name : end if end >= 0 else name + LONGEST + 1])
        if not text or section == _SHN_UNDEF or kind in (_SECTION, _FILE):
            continue
        letter = "a" if section >= _SHN_LORESERVE else "t" if section in code else "d"
        rows.append((value, letter.upper() if info >> 4 else letter, text))
    return rows
