"""A kernel's symbols as an ELF file with nothing but those, for gdb: kernels are kept without theirs."""

from __future__ import annotations

import struct

from corral.errors import BootError, ConfigError
from corral.symbols.table import KERNEL_MAP, rows_of_kernel

_NOBITS, _SYMTAB, _STRTAB = 8, 2, 3
_EXECUTABLE_FILE, _X86_64 = 2, 62
_TEXT, _DATA, _ABSOLUTE = 1, 2, 0xFFF1  # numbers of sections
_FUNCTION, _OBJECT = 2, 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MARGIN = 1 << 20  # bytes past the last symbol of a section that still belong to it


def write(kernel: str, target: str) -> int:
    """Those of a kernel file; returns how many there are. Raises BootError, ConfigError."""
    # What lies at the beginning of each CPU's area has small addresses, and names that hide others.
    rows = [row for row in rows_of_kernel(kernel) if row[0] >= KERNEL_MAP]
    text = [address for address, kind, _ in rows if kind in "tT"]
    data = [address for address, kind, _ in rows if kind in "dDbBrR"]
    if not text or not data:
        raise BootError(f"{kernel!r} has no symbols, and no System.map beside it; use a kernel that has either")
    names, symbols = bytearray(b"\0"), bytearray(_SYMBOL.size)
    for (address, kind, name), (after, _, _) in zip(rows, [*rows[1:], rows[-1]], strict=True):
        function = kind in "tT"
        section = _TEXT if function else _DATA if kind in "dDbBrR" else _ABSOLUTE
        binding = 1 if kind.isupper() else 0
        size = max(0, min(after - address, _MARGIN))
        symbols += _SYMBOL.pack(
            len(names), binding << 4 | (_FUNCTION if function else _OBJECT), 0, section, address, size
        )
        names += name.encode() + b"\0"
    try:
        with open(target, "wb") as file:
            file.write(_elf(min(text), max(text), min(data), max(data), bytes(symbols), bytes(names)))
    except OSError as error:
        raise ConfigError(f"cannot write {target!r}: {error.strerror}; name another file") from None
    return len(rows)


def _elf(text: int, text_end: int, data: int, data_end: int, symbols: bytes, names: bytes) -> bytes:
    section_names = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0"
    parts = (symbols, names, section_names)
    at = _HEADER.size
    offsets = [at, at + len(symbols), at + len(symbols) + len(names)]
    table = offsets[2] + len(section_names)
    first_global = 1  # gdb does not mind locals after it
    sections = [
        (0,) * 10,
        (section_names.index(b".text"), _NOBITS, 6, text, at, text_end - text + _MARGIN, 0, 0, 16, 0),
        (section_names.index(b".data"), _NOBITS, 3, data, at, data_end - data + _MARGIN, 0, 0, 16, 0),
        (section_names.index(b".symtab"), _SYMTAB, 0, 0, offsets[0], len(symbols), 4, first_global, 8, _SYMBOL.size),
        (section_names.index(b".strtab"), _STRTAB, 0, 0, offsets[1], len(names), 0, 0, 1, 0),
        (section_names.index(b".shstrtab"), _STRTAB, 0, 0, offsets[2], len(section_names), 0, 0, 1, 0),
    ]
    identity = b"\x7fELF\2\1\1" + bytes(9)
    header = _HEADER.pack(
        *(identity, _EXECUTABLE_FILE, _X86_64, 1, text, 0, table, 0, _HEADER.size, 56, 0),
        *(_SECTION.size, len(sections), len(sections) - 1),
    )
    return header + b"".join(parts) + b"".join(_SECTION.pack(*section) for section in sections)
