"""ACPI machine language: the few constructs that the DSDT is made of, each a function from values to bytes.

Source: ACPI 6.4, chapter 20; resource descriptors: section 6.4.
"""

from __future__ import annotations

import struct

# Opcodes (table 20.1 to 20.4).
_ZERO, _ONE, _NAME = b"\x00", b"\x01", b"\x08"
_BYTE, _WORD, _DWORD, _STRING, _QWORD = b"\x0a", b"\x0b", b"\x0c", b"\x0d", b"\x0e"
_SCOPE, _BUFFER, _PACKAGE, _METHOD = b"\x10", b"\x11", b"\x12", b"\x14"
_NOTIFY = b"\x86"
_DEVICE = b"\x5b\x82"

# Resource descriptors: small ones have their length in the tag's low bits, large ones in two bytes behind it.
_IO = struct.Struct("<BBHHBB")
_IO_TAG, _DECODE_16 = 0x47, 1
_MEMORY_32_FIXED = struct.Struct("<BHBII")
_MEMORY_32_FIXED_TAG, _READ_WRITE = 0x86, 1
_INTERRUPT = struct.Struct("<BHBBI")
_INTERRUPT_TAG, _CONSUMER, _EDGE = 0x89, 1 << 0, 1 << 1  # active high and not shared: bits that are clear
_END = b"\x79\x00"  # with a checksum of zero, which counts as right


def integer(value: int) -> bytes:
    """The shortest form of 0 to 2^64 - 1."""
    if value < 2:
        return _ONE if value else _ZERO
    for prefix, size in ((_BYTE, 1), (_WORD, 2), (_DWORD, 4)):
        if value < 1 << 8 * size:
            return prefix + value.to_bytes(size, "little")
    return _QWORD + value.to_bytes(8, "little")


def string(text: str) -> bytes:
    return _STRING + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """An integer from "PNP0501": three letters of five bits, four hexadecimal digits, bytes swapped (section 6.1.5)."""
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | ord(letter) - ord("@")
    return _DWORD + struct.pack(">HH", letters, int(text[3:], 16))


def package(*elements: bytes) -> bytes:
    return _PACKAGE + _with_length(bytes([len(elements)]) + b"".join(elements))


def buffer(content: bytes) -> bytes:
    return _BUFFER + _with_length(integer(len(content)) + content)


def name(path: str, value: bytes) -> bytes:
    return _NAME + _name_string(path) + value


def scope(path: str, *terms: bytes) -> bytes:
    return _SCOPE + _with_length(_name_string(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    return _DEVICE + _with_length(_name_string(path) + b"".join(terms))


def method(path: str, arguments: int, *terms: bytes) -> bytes:
    """A method of 0 to 7 arguments that runs one call at a time."""
    serialized = 1 << 3
    return _METHOD + _with_length(_name_string(path) + bytes([arguments | serialized]) + b"".join(terms))


def notify(path: str, value: int) -> bytes:
    return _NOTIFY + _name_string(path) + integer(value)


def resources(*descriptors: bytes) -> bytes:
    """The value of a _CRS."""
    return buffer(b"".join(descriptors) + _END)


def io(first: int, last: int) -> bytes:
    """The I/O ports first..last, both included."""
    return _IO.pack(_IO_TAG, _DECODE_16, first, first, 1, last - first + 1)


def memory(start: int, size: int) -> bytes:
    """`size` bytes of device registers at the guest physical address `start`, below 4 GiB."""
    return _MEMORY_32_FIXED.pack(_MEMORY_32_FIXED_TAG, _MEMORY_32_FIXED.size - 3, _READ_WRITE, start, size)


def edge_interrupt(gsi: int) -> bytes:
    return _INTERRUPT.pack(_INTERRUPT_TAG, _INTERRUPT.size - 3, _CONSUMER | _EDGE, 1, gsi)


def _name_string(path: str) -> bytes:
    """A root or relative name of one segment, which is filled up with underscores (section 20.2.2)."""
    root = path.startswith("\\")
    return b"\\" * root + path.removeprefix("\\").ljust(4, "_").encode("ascii")


def _with_length(content: bytes) -> bytes:
    """`content` behind its PkgLength, which counts itself: six bits, or four and up to three bytes (section 20.2.4)."""
    if len(content) + 1 < 1 << 6:
        return bytes([len(content) + 1]) + content
    more = 1 if len(content) + 2 < 1 << 12 else 2 if len(content) + 3 < 1 << 20 else 3
    length = len(content) + 1 + more
    return bytes([more << 6 | length & 0xF]) + (length >> 4).to_bytes(more, "little") + content
