"""ext4 file systems with a few files, and disks with partitions, made by the distribution's own tools or by hand."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MIB = 1 << 20
SYSTEM = ["sbin/init", "etc/os-release"]
LINUX, SWAP, EFI, LVM = 0x83, 0x82, 0xEF, 0x8E  # types of partitions


def ext4(size: int, folder: Path, files: Sequence[str] | Mapping[str, bytes] = (), label: str = "") -> bytes:
    """A file system with these files; one that is written `path -> target` is a link."""
    path, tree = folder / "ext4", folder / "tree"
    path.write_bytes(bytes(size))
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    contents = files if isinstance(files, Mapping) else dict.fromkeys(files, b"content")
    for name, content in contents.items():
        place, arrow, target = name.partition(" -> ")
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (tree / place).symlink_to(target)
        else:
            (tree / place).write_bytes(content)
    command = ["mke2fs", "-q", "-t", "ext4", "-F", "-L", label, "-d", str(tree), str(path)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return path.read_bytes()


def mbr(*entries: tuple[int, int, int]) -> bytes:
    """A sector with (type, start, sectors)."""
    packed = b"".join(struct.pack("<B3xB3xII", 0, *entry) for entry in entries)
    return (bytes(446) + packed).ljust(510, b"\0") + b"\x55\xaa"


def disk(path: Path, *partitions: tuple[int, bytes]) -> str:
    """A disk with an MBR and these partitions, by type and content."""
    entries, at = [], MIB
    with open(path, "wb") as file:
        for kind, content in partitions:
            entries.append((kind, at // 512, len(content) // 512))
            file.seek(at)
            file.write(content)
            at += len(content)
        file.seek(0)
        file.write(mbr(*entries))
    return str(path)
