"""A disk that a PC boots by itself: GRUB in front of a partition with a kernel and its initramfs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from corral.images import build

SECTOR = 512
FIRST = 2048  # of the partition, in sectors: behind GRUB
PARTITION_TABLE = 446
LINUX, BOOTABLE = 0x83, 0x80
MODULES = ["biosdisk", "part_msdos", "ext2", "linux", "boot"]
SCRIPT = """set root=hd0,msdos1
linux /vmlinuz console=ttyS0 panic=-1 quiet corral.status=0xca1 PARAMETERS
initrd /initrd
boot
"""


def make(path: Path, kernel: Path, initrd: Path, parameters: str) -> Path:
    """Writes it to `path`, with files of the same name and an ending beside it."""
    files = path.with_suffix(".files")
    files.mkdir()
    shutil.copy(kernel, files / "vmlinuz")
    shutil.copy(initrd, files / "initrd")
    system = path.with_suffix(".ext4")
    build.from_folder(str(files), str(system), 64 << 20, lambda text: None)
    script = path.with_suffix(".cfg")
    script.write_text(SCRIPT.replace("PARAMETERS", parameters))
    core = path.with_suffix(".core")
    command = ["grub-mkimage", "--format=i386-pc", f"--output={core}", "--prefix=/", f"--config={script}", *MODULES]
    subprocess.run(command, check=True)

    first = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    sectors = system.stat().st_size // SECTOR
    partition = struct.pack("<B3sB3sII", BOOTABLE, b"\0\2\0", LINUX, b"\xfe\xff\xff", FIRST, sectors)
    first[PARTITION_TABLE : SECTOR - 2] = partition.ljust(SECTOR - 2 - PARTITION_TABLE, b"\0")
    loader = bytes(first) + core.read_bytes()
    assert len(loader) <= FIRST * SECTOR
    path.write_bytes(loader.ljust(FIRST * SECTOR, b"\0") + system.read_bytes())
    return path
