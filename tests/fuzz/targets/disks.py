"""A disk's content, as far as Corral looks for what to boot: partitions, file systems, /boot, the loader's words."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from itertools import islice
from pathlib import Path

from corral.files.file import Flaw
from corral.images import boot_folder, root
from corral.images.volumes import DiskVolumes
from tests.fuzz.targets import MemoryFile, one_line

LONGEST = 1 << 16
CONCERNED = (
    *("corral.files.partitions", "corral.files.ext4", "corral.files.ext4_files", "corral.images.root"),
    *("corral.images.volumes", "corral.images.content", "corral.images.boot_folder"),
)

_file = MemoryFile()


def one(data: bytes) -> None:
    path = _file.put(data, -(-max(len(data), 1) // 512) * 512)
    with DiskVolumes(path) as disk:
        found = root.of(disk)
        assert found.system.isprintable()
        assert found.flaw.isprintable()
        files = boot_folder.find(disk, found)
        if files:
            for word in files.words:
                assert word.isprintable()
                assert " " not in word
            for name in (files.kernel, files.initramfs, files.config, files.symbols):
                assert name.isprintable()
            copy(files)
        boot_folder.configuration(disk, found, "6.1")


def copy(files: boot_folder.BootFiles) -> None:
    """As the kernel is copied into the cache."""
    try:
        node = files.files.find(files.kernel)
        assert node
        assert sum(map(len, islice(files.files.pieces(node), 64))) <= node.size
    except Flaw as flaw:
        one_line(flaw)


def _mbr(*partitions: tuple[int, int, int]) -> bytes:
    entries = b"".join(struct.pack("<B3xB3xII", 0, kind, start, size) for kind, start, size in partitions)
    return bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"


def _ext(kind: str) -> bytes:
    """A small file system with a /boot; b"" without mke2fs."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        (tree / "boot" / "loader" / "entries").mkdir(parents=True)
        (tree / "sbin").mkdir()
        (tree / "sbin" / "init").write_text("#!")
        (tree / "boot" / "vmlinuz-6.1").write_text("kernel")
        (tree / "boot" / "initrd.img-6.1").write_text("initrd")
        (tree / "boot" / "config-6.1").write_text("CONFIG_X=y\n")
        (tree / "boot" / "vmlinuz").symlink_to("vmlinuz-6.1")
        (tree / "boot" / "loader" / "entries" / "a.conf").write_text("linux /vmlinuz-6.1\noptions root=/dev/vda2 x=y\n")
        image = Path(folder, "image")
        command = ["mke2fs", "-q", "-t", kind, "-b", "1024", "-N", "32", "-O", "^resize_inode,^has_journal"]
        try:
            subprocess.run([*command, "-d", str(tree), str(image), "64"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return b""
        return image.read_bytes()


_EXT2, _EXT4 = _ext("ext2"), _ext("ext4")
_GPT = bytes(510) + b"\x55\xaa"
SEEDS = [
    _EXT2,
    _EXT4,
    _mbr((0x83, 1, 112)) + _EXT2[: 1 << 15],
    _mbr((5, 1, 100)) + _mbr((0x83, 1, 10), (5, 2, 10)) + _mbr((0x83, 1, 10)),
    _mbr((0xEE, 1, 200)) + b"EFI PART\0\0\1\0".ljust(92, b"\0") + bytes(420),
    b"\0" * 512 + b"LABELONE" + bytes(1000),
    b"LUKS\xba\xbe" + bytes(1000),
]
