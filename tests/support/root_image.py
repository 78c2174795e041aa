"""An ext4 image with what Corral's initramfs has, as a root file system: init, busybox and folders to mount on."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from corral.guests import initramfs, programs


def tree(folder: Path) -> Path:
    for name in ("bin", "dev", "proc", "sys", "tmp", "sbin", "mnt"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sbin" / "init").write_bytes(programs.compiled("init.c", str(folder)))
    (folder / "bin" / "busybox").write_bytes(initramfs.busybox())
    (folder / "bin" / "sh").symlink_to("busybox")
    for program in ("sbin/init", "bin/busybox"):
        (folder / program).chmod(0o755)
    return folder


def make(image: Path, size: str = "16M") -> Path:
    folder = tree(image.with_suffix(".folder"))
    # -E: what a real image has as well, and a guest would otherwise do on its first mounts.
    options = ["-E", "lazy_itable_init=0,root_owner=0:0", "-q", "-d", str(folder)]
    subprocess.run(["mke2fs", "-t", "ext4", *options, str(image), size], check=True, capture_output=True)
    return image


def partitioned(target: Path, image: Path) -> Path:
    """A disk with an MBR, and the image on the second of its partitions."""
    start, sectors = 4096, image.stat().st_size // 512
    entries = [(0xEF, 2048, start - 2048), (0x83, start, sectors)]
    table = b"".join(struct.pack("<B3xB3xII", 0, *entry) for entry in entries)
    with open(target, "wb") as file:
        file.write((bytes(446) + table).ljust(510, b"\0") + b"\x55\xaa")
        file.seek(start * 512)
        file.write(image.read_bytes())
    return target


def content(image: Path, path: str) -> bytes:
    """A file of the image, by the file system's own tools. Empty when there is none."""
    return subprocess.run(["debugfs", "-R", f"cat {path}", str(image)], capture_output=True, check=True).stdout


def check(image: Path) -> None:
    """Raises CalledProcessError when the file system is not clean; a journal is replayed first, as a mount would."""
    subprocess.run(["e2fsck", "-p", str(image)], check=True, capture_output=True)
    subprocess.run(["e2fsck", "-fn", str(image)], check=True, capture_output=True)
