"""Where the root file system of a disk is found."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from corral.images.root import Root, find
from tests.support.file_systems import EFI, LINUX, LVM, MIB, SWAP, SYSTEM, disk, ext4
from tests.unit.images.test_partitions import LINUX as LINUX_GUID
from tests.unit.images.test_partitions import gpt

XFS = b"XFSB".ljust(2 * MIB, b"\0")
LUKS = b"LUKS\xba\xbe".ljust(MIB, b"\0")
PV = (bytes(0x200) + b"LABELONE").ljust(MIB, b"\0")
PV_BEHIND_ITS_PLACE = (bytes(0x600) + b"LABELONE" + bytes(16) + b"LVM2 001").ljust(MIB, b"\0")
ZFS = (bytes(0x20000 + 5 * 1024) + b"\x0c\xb1\xba\0\0\0\0\0").ljust(MIB, b"\0")
RAID = (bytes(4096) + b"\xfc\x4e\x2b\xa9").ljust(MIB, b"\0")
F2FS = (bytes(0x400) + b"\x10\x20\xf5\xf2").ljust(MIB, b"\0")
BTRFS = (bytes(0x10040) + b"_BHRfS_M").ljust(MIB, b"\0")


def test_a_file_system_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ext4(8 * MIB, tmp_path))
    assert find(str(path)) == Root(0, "ext4", "", "")
    path.write_bytes(ext4(8 * MIB, tmp_path, ["sbin/init -> /lib/systemd/systemd"]))
    assert find(str(path)) == Root(0, "ext4", "", "/lib/systemd/systemd")
    path.write_bytes(XFS)
    assert find(str(path)) == Root(0, "XFS", "")


def test_the_partition_with_a_system_however_small(tmp_path: Path) -> None:
    system = (LINUX, ext4(2 * MIB, tmp_path, SYSTEM))
    data = (LINUX, ext4(9 * MIB, tmp_path, ["films/a", "etc/fstab"]))
    boot = (LINUX, ext4(4 * MIB, tmp_path, ["vmlinuz-6", "grub/grub.cfg"]))
    efi, swap = (EFI, bytes(3 * MIB)), (SWAP, bytes(5 * MIB))
    assert find(disk(tmp_path / "disk", efi, data, system, swap)) == Root(3, "ext4", "MBR", "/sbin/init")
    assert find(disk(tmp_path / "disk", system, data)) == Root(1, "ext4", "MBR", "/sbin/init")
    # What cannot be looked into may have one; a file system that has none comes after what has to be opened first.
    assert find(disk(tmp_path / "disk", boot, (LINUX, XFS))) == Root(2, "XFS", "MBR")
    assert find(disk(tmp_path / "disk", (LINUX, XFS), system)) == Root(2, "ext4", "MBR", "/sbin/init")
    assert find(disk(tmp_path / "disk", boot, (LVM, PV))) == Root(2, "LVM", "MBR")
    assert find(disk(tmp_path / "disk", efi, data, swap)) == Root(2, "ext4", "MBR", "")


def test_of_several_that_are_as_likely_the_first_and_the_others_are_told(tmp_path: Path) -> None:
    system, labelled = ((LINUX, ext4(3 * MIB, tmp_path, SYSTEM, label)) for label in ("", "cloudimg-rootfs"))
    assert find(disk(tmp_path / "disk", system, system)) == Root(1, "ext4", "MBR", "/sbin/init", (2,))
    assert find(disk(tmp_path / "disk", system, labelled, system)) == Root(2, "ext4", "MBR", "/sbin/init")
    assert find(disk(tmp_path / "disk", (LINUX, XFS), (LINUX, XFS))) == Root(1, "XFS", "MBR", None, (2,))


@pytest.mark.parametrize(
    ("kind", "content", "system"),
    [
        (LINUX, LUKS, "LUKS"),
        (LVM, PV, "LVM"),
        (LINUX, PV_BEHIND_ITS_PLACE, "LVM"),
        (LINUX, ZFS, "ZFS"),
        (LINUX, RAID, "Linux RAID"),
        (LINUX, bytes(MIB), ""),
    ],
)
def test_what_linux_does_not_mount(tmp_path: Path, kind: int, content: bytes, system: str) -> None:
    found = find(disk(tmp_path / "disk", (kind, content)))
    assert found == Root(1, system, "MBR")
    assert not found.mountable


def test_a_gpt_with_a_root_partition(tmp_path: Path) -> None:
    """Of partitions with as much on them it is that of the right type."""
    path = tmp_path / "disk"
    root = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
    large, small = (LINUX_GUID, 2048, 2048 + 20479, ""), (root, 22528, 22528 + 8191, "")
    with open(path, "wb") as file:
        file.write(gpt(large, small))
        for _, first, last, _ in (large, small):
            file.seek(first * 512)
            file.write(ext4((last + 1 - first) * 512, tmp_path))
    assert find(str(path)) == Root(2, "ext4", "GPT", "")


def test_a_gpt_of_a_disk_with_large_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.write(gpt((LINUX_GUID, 256, 256 + 1023, ""), sector=4096))
        file.seek(256 * 4096)
        file.write(ext4(4 * MIB, tmp_path, SYSTEM))
    assert find(str(path)) == Root(1, "ext4", "GPT", "/sbin/init")


def test_a_damaged_gpt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    data = bytearray(gpt((LINUX_GUID, 40, 49, "")).ljust(MIB, b"\0"))
    data[520] ^= 1
    path.write_bytes(data)
    assert find(str(path)) == Root(0, "", "GPT", flaw="its header is damaged")


@pytest.mark.parametrize(("content", "system"), [(F2FS, "F2FS"), (BTRFS, "Btrfs"), (XFS, "XFS")])
def test_file_systems_that_cannot_be_looked_into(tmp_path: Path, content: bytes, system: str) -> None:
    found = find(disk(tmp_path / "disk", (LINUX, content)))
    assert found == Root(1, system, "MBR")
    assert found.mountable


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
