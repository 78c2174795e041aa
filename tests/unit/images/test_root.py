"""Where the root file system of a disk is found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from corral.images.root import Root, find
from tests.unit.images.test_partitions import LINUX as LINUX_GUID
from tests.unit.images.test_partitions import gpt, mbr

MIB = 1 << 20
LINUX, SWAP, EFI, LVM = 0x83, 0x82, 0xEF, 0x8E


def ext4(size: int, folder: Path) -> bytes:
    path = folder / "ext4"
    path.write_bytes(bytes(size))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", str(path)], check=True, timeout=20)
    return path.read_bytes()


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


XFS = b"XFSB".ljust(2 * MIB, b"\0")
LUKS = b"LUKS\xba\xbe".ljust(MIB, b"\0")
PV = (bytes(0x200) + b"LABELONE" + bytes(16) + b"LVM2 001").ljust(MIB, b"\0")


def test_a_file_system_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ext4(8 * MIB, tmp_path))
    assert find(str(path)) == Root(0, "ext4", "")
    path.write_bytes(XFS)
    assert find(str(path)) == Root(0, "XFS", "")


def test_the_largest_partition_that_can_be_mounted(tmp_path: Path) -> None:
    small = (LINUX, ext4(2 * MIB, tmp_path))
    parts = [(EFI, bytes(20 * MIB)), small, (LINUX, ext4(4 * MIB, tmp_path)), (SWAP, bytes(30 * MIB))]
    assert find(disk(tmp_path / "disk", *parts)) == Root(3, "ext4", "MBR")
    assert find(disk(tmp_path / "disk", parts[0], (LINUX, XFS))) == Root(2, "XFS", "MBR")


@pytest.mark.parametrize(
    ("kind", "content", "system"), [(LINUX, LUKS, "LUKS"), (LVM, PV, "LVM"), (LINUX, bytes(MIB), "")]
)
def test_what_linux_does_not_mount(tmp_path: Path, kind: int, content: bytes, system: str) -> None:
    found = find(disk(tmp_path / "disk", (kind, content)))
    assert found == Root(1, system, "MBR")
    assert not found.mountable


def test_a_gpt_with_a_root_partition(tmp_path: Path) -> None:
    """The type of a partition goes before its size."""
    path = tmp_path / "disk"
    root = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
    large, small = (LINUX_GUID, 2048, 2048 + 20479, ""), (root, 22528, 22528 + 8191, "")
    with open(path, "wb") as file:
        file.write(gpt(large, small))
        for _, first, last, _ in (large, small):
            file.seek(first * 512)
            file.write(ext4((last + 1 - first) * 512, tmp_path))
    assert find(str(path)) == Root(2, "ext4", "GPT")


def test_nothing_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    assert find(str(path)) == Root(0, "", "")
    path.write_bytes(b"")
    assert find(str(path)) == Root(0, "", "")
    assert find(disk(path)) == Root(0, "", "")
    os.mkfifo(tmp_path / "fifo")
    for name in ("missing", "fifo", "", "\0"):
        assert find(str(tmp_path / name) if name else "") is None
