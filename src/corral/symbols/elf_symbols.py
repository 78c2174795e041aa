"""The symbols that an ELF file was linked with, if they were not stripped from it (System V ABI, "Symbol Table")."""

from __future__ import annotations

import struct
from operator import itemgetter

from corral.files.elf import MAGIC
from corral.symbols.names import LONGEST, Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile

Row = tuple[int, str, str]  # address, kind as nm tells it, name

_SHT_SYMTAB = 2
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_OBJECT, _FUNCTION, _SECTION, _FILE = 1, 2, 3, 4  # types of symbols
_EXECUTABLE = 4  # SHF_EXECINSTR
_MOST_SECTIONS, _LARGEST = 1 << 12, 256 << 20


def find(file: ImageFile) -> list[Row]:
    """By address; [] when it is no ELF file, has none, or none that can be read. Raises Flaw for too many."""
    head = file.head(5)
    if not head.startswith(MAGIC) or head[4] not in (1, 2):
        return []
    try:
        return sorted(_rows(file, 32 * head[4]), key=itemgetter(0))
    except struct.error:
        return []


def _rows(file: ImageFile, bits: int) -> list[Row]:
    header = struct.Struct("<40xQ10xHH" if bits == 64 else "<32xI10xHH")
    section = struct.Struct("<IIQQQQIIQQ" if bits == 64 else "<IIIIIIIIII")
    table, size, count = header.unpack_from(file.head(header.size))
    if size != section.size or not 0 < count <= _MOST_SECTIONS or table + size * count > file.size:
        return []
    sections = list(section.iter_unpack(file.read(table, size * count)))
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind == _SHT_SYMTAB and link < count:
            _, _, _, _, strings, strings_length, *_ = sections[link]
            if max(offset + length, strings + strings_length) <= file.size and length + strings_length <= _LARGEST:
                symbols, names = file.read(offset, length), file.read(strings, strings_length)
                code = {index for index, row in enumerate(sections) if row[2] & _EXECUTABLE}
                return _symbols(symbols, names, bits, code)
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
