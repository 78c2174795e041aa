"""The build ID among an ELF file's notes (System V ABI, "Note Section"; NT_GNU_BUILD_ID of binutils)."""

from __future__ import annotations

import re

# The length of the owner's name, of the content, the kind of note, the owner.
_HEAD = re.compile(rb"\x04\0\0\0([\x01-\x40])\0\0\0\x03\0\0\0GNU\0", re.DOTALL)


def build_id(data: bytes | bytearray) -> tuple[int, int] | None:
    """(offset, length) of the first one in what holds notes; None where there is none."""
    found = _HEAD.search(data)
    if found is None or found.end() + found[1][0] > len(data):
        return None
    return found.end(), found[1][0]
