"""What every ACPI table begins with (ACPI 6.4, section 5.2.6)."""

from __future__ import annotations

import struct

OEM = b"CORRAL"
CREATOR = b"CRRL"

# Signature, length, revision, checksum, OEM, its table and revision, creator and its revision.
_HEADER = struct.Struct("<4sIBB6s8sI4sI")
HEADER_SIZE = _HEADER.size
_CHECKSUM_AT = 9


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A whole table: the header with its length and checksum, and `body`."""
    length = HEADER_SIZE + len(body)
    header = _HEADER.pack(signature, length, revision, 0, OEM, OEM + b"VM", 1, CREATOR, 1)
    return with_checksum(header + body, _CHECKSUM_AT)


def with_checksum(data: bytes, at: int) -> bytes:
    """`data` with the byte at `at`, zero until now, such that all of them add up to 0 modulo 256."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]
