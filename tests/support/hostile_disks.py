"""Disk images of 16 MiB that are made to cost whoever looks for what to boot on them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

BLOCK, BLOCKS = 4096, 4080
_SKIPPED = 16  # sectors before the file system, where the partition table is
_ROOT = 2


def _folder(block: int, prefix: bytes) -> bytes:
    """A block of a folder: as many names as there is room for, each of the folder itself. The first ones are those that
    are looked for."""
    wanted = [b"usr", b"lib", b"modules", b"boot", b"etc", b"sbin"] if block == 0 else []
    out = b""
    while len(out) < BLOCK - 32:
        name = wanted.pop() if wanted else prefix + b"%05x" % (block << 8 | len(out) >> 4)
        length = -(-(8 + len(name)) // 4) * 4
        out += (struct.pack("<IHBB", _ROOT, length, len(name), 2) + name).ljust(length, b"\0")
    return out + struct.pack("<IHBB", 0, BLOCK - len(out), 0, 0).ljust(BLOCK - len(out), b"\0")


def with_large_folders(path: Path, partitions: int, prefix: bytes = b"", size: int | None = None) -> Path:
    """An ext4 file system whose root folder is all of its blocks, or says to have `size` bytes, and a partition table
    that has it again and again."""
    inner = path.with_suffix(".ext4")
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-O", "^has_journal,^resize_inode,^metadata_csum"]
    subprocess.run([*command, str(inner), str(BLOCKS)], check=True, capture_output=True)
    data = bytearray(inner.read_bytes())
    inner.unlink()
    table = int.from_bytes(data[BLOCK + 8 : BLOCK + 12], "little")
    (inode_size,) = struct.unpack_from("<H", data, 1024 + 88)
    first = 64 + table  # behind the tables of inodes
    count = BLOCKS - first
    for block in range(first, BLOCKS):
        data[block * BLOCK : (block + 1) * BLOCK] = _folder(block - first, prefix)
    at = table * BLOCK + (_ROOT - 1) * inode_size
    extent = struct.pack("<HHHHIIHHI", 0xF30A, 1, 4, 0, 0, 0, count, 0, first)
    struct.pack_into("<I", data, at + 4, count * BLOCK if size is None else size)
    struct.pack_into("<I", data, at + 32, 0x80000)
    data[at + 40 : at + 40 + 60] = extent.ljust(60, b"\0")
    size = len(data) // 512
    head = bytearray(_SKIPPED * 512)
    entries = struct.pack("<B3xB3xII", 0, 0x83, _SKIPPED, size) * 3 + struct.pack("<B3xB3xII", 0, 5, 1, 15)
    head[446:512] = entries + b"\x55\xaa"
    tables = min(partitions - 3, _SKIPPED - 1)
    for number in range(1, tables + 1):  # the logical ones
        link = struct.pack("<B3xB3xII", 0, 5, number, 1) if number < tables else bytes(16)
        more = struct.pack("<B3xB3xII", 0, 0x83, _SKIPPED - number, size) * 3
        head[512 * number + 446 : 512 * number + 512] = (more + link).ljust(64, b"\0") + b"\x55\xaa"
    path.write_bytes(head + data)
    return path
