"""Kernels that die at once, and whose symbols are made to cost whoever reads them."""

from __future__ import annotations

import struct

CODE_AT, SEGMENT = 0x200000, 0x1000
_CODE = b"\x0f\x0b" * 64  # ud2, and there is no handler
_NOTE = struct.pack("<III", 4, 8, 18) + b"Xen\0" + struct.pack("<Q", CODE_AT)  # a PVH entry
_FUNCTION = 0x12


def _header(size: int, sections_at: int = 0, sections: int = 0) -> bytes:
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = identity + struct.pack("<HHIQQQ", 2, 62, 1, CODE_AT, 64, sections_at)
    header += struct.pack("<IHHHHHH", 0, 64, 56, 2, 64, sections, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, SEGMENT, CODE_AT, CODE_AT, size, size, SEGMENT)
    header += struct.pack("<IIQQQQQQ", 4, 4, 0x800, 0, 0, len(_NOTE), len(_NOTE), 4)
    return header.ljust(0x800, b"\0") + _NOTE


def with_symbols(names: bytes, offsets: list[int]) -> bytes:
    """A string table and where in it the name of each function begins."""
    symbols = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", offset, _FUNCTION, 0, 1, CODE_AT + number, 0) for number, offset in enumerate(offsets)
    )
    symbols_at = SEGMENT + SEGMENT
    names_at = symbols_at + len(symbols)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 1, 4, CODE_AT, SEGMENT, len(_CODE), 0, 0, 0, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, symbols_at, len(symbols), 3, 0, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    head = _header(len(_CODE), names_at + len(names), 4).ljust(SEGMENT, b"\0") + _CODE
    return head.ljust(symbols_at, b"\0") + symbols + names + sections


def with_lookalike(mebibytes: float, word: bytes = struct.pack("<II", 0, 0x400)) -> bytes:
    """What could be kallsyms' table of tokens, and before it words that could each begin that of its markers."""
    tokens, starts = b"", []
    for code in range(256):
        starts.append(len(tokens))
        tokens += (bytes([code]) if chr(code).isdigit() else b"t%02x" % code) + b"\0"
    table = tokens + bytes(-len(tokens) % 8) + struct.pack("<256H", *starts)
    content = _CODE.ljust(SEGMENT, b"\0") + word * int(mebibytes * (1 << 20) / len(word)) + bytes(8) + table + bytes(64)
    return _header(len(content)).ljust(SEGMENT, b"\0") + content


def with_digits(mebibytes: float) -> bytes:
    """The beginning of a table of tokens again and again."""
    digits = b"".join(b"%d\0" % digit for digit in range(10))
    content = _CODE.ljust(SEGMENT, b"\0") + digits * int(mebibytes * (1 << 20) / len(digits))
    return _header(len(content)).ljust(SEGMENT, b"\0") + content
