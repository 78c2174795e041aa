"""Build IDs of ELF files, by which debug information is known to be a kernel's."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from corral.files import elf_notes
from corral.files.file import ImageFile

IDENTITY = bytes(range(20))
NOTE = struct.pack("<III4s", 4, 20, 3, b"GNU\0") + IDENTITY
OTHER = struct.pack("<III4s", 4, 4, 1, b"GNU\0") + bytes(4)


def elf(segments: list[tuple[int, bytes]]) -> bytes:
    """Kinds and contents."""
    at = 64 + 56 * len(segments)
    table, content = b"", b""
    for kind, data in segments:
        table += struct.pack("<IIQQQQQQ", kind, 4, at + len(content), 0, 0, len(data), len(data), 4)
        content += data
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return head + table + content


def found(path: Path, content: bytes) -> tuple[int, bytes] | None:
    path.write_bytes(content)
    with ImageFile(str(path), "kernel") as file:
        return elf_notes.build_id_of(file)


def test_it_is_that_of_the_notes_and_not_one_among_the_data(tmp_path: Path) -> None:
    other = NOTE[:16] + bytes(20)  # as the image of a vDSO in a kernel's data has it
    content = elf([(1, other), (4, OTHER + NOTE)])
    assert found(tmp_path / "vmlinux", content) == (len(content) - 20, IDENTITY)


@pytest.mark.parametrize(
    "content",
    [
        elf([(1, NOTE)]),
        elf([(4, OTHER)]),
        elf([(4, NOTE[:-1])]),
        elf([(4, NOTE)])[:-1],
        elf([(4, NOTE)])[:100],
        elf([(4, NOTE)])[:40],
        elf([]),
    ],
)
def test_a_file_without_has_none(tmp_path: Path, content: bytes) -> None:
    assert found(tmp_path / "vmlinux", content) is None
