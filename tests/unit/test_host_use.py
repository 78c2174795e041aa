"""What the host has mounted, swaps on or uses otherwise is not for a guest to write; nor the other way round."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.backends.disk_image import DiskImage
from corral.config import DiskConfig
from corral.errors import BootError
from tests.support.file_systems import LINUX, MIB, disk, ext4


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(ext4(4 * MIB, tmp_path))
    return path


@pytest.fixture
def loop(image: Path) -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("only root has loop devices")
    try:
        device = run("losetup", "--find", "--show", str(image))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device to be had here: {error}")
    yield device
    subprocess.run(["umount", device], check=False, capture_output=True)
    run("losetup", "--detach", device)


def unmount(device: str) -> None:
    """Until none has it any more: a process that made a mount namespace meanwhile has the mount there too."""
    run("umount", device)
    limit = time.monotonic() + 100
    while time.monotonic() < limit:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.05)
    pytest.fail(f"{device} is in use 100 s after it was unmounted")


def refused(path: object, message: str) -> None:
    with pytest.raises(BootError, match=message + r".*,ro or ,snapshot=on"):
        DiskImage(DiskConfig(str(path)))
    for reader in (DiskConfig(str(path), read_only=True), DiskConfig(str(path), snapshot=True)):
        DiskImage(reader).close()


def test_a_device_that_is_mounted_and_the_file_behind_it(image: Path, loop: str, tmp_path: Path) -> None:
    DiskImage(DiskConfig(loop)).close()
    refused(image, f"is behind {loop}; detach that: losetup -d {loop}")
    (tmp_path / "mnt").mkdir()
    run("mount", loop, str(tmp_path / "mnt"))
    refused(loop, f"this host has {loop} mounted on {tmp_path}/mnt; unmount it")
    refused(image, f"is behind {loop}, which this host has mounted on {tmp_path}/mnt; unmount and detach")
    hard_link = tmp_path / "another name"
    os.link(image, hard_link)
    refused(hard_link, f"is behind {loop}")
    unmount(loop)
    DiskImage(DiskConfig(loop)).close()


def test_a_device_that_a_guest_has_cannot_be_mounted(loop: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    opened = DiskImage(DiskConfig(loop))
    done = subprocess.run(["mount", loop, str(tmp_path / "mnt")], capture_output=True, check=False)
    assert done.returncode != 0
    opened.close()
    run("mount", loop, str(tmp_path / "mnt"))


def test_what_another_program_has_for_itself(loop: str) -> None:
    fd = os.open(loop, os.O_RDONLY | os.O_EXCL)
    refused(loop, "another program, or another container, has it for itself")
    os.close(fd)
    DiskImage(DiskConfig(loop)).close()


def test_a_disk_of_which_a_partition_is_mounted(image: Path, loop: str, tmp_path: Path) -> None:
    disk(image, (LINUX, ext4(4 * MIB, tmp_path)))
    run("losetup", "--set-capacity", loop)
    subprocess.run(["partx", "--delete", loop], check=False, capture_output=True)  # an interrupted test may leave it
    run("partx", "--add", loop)
    (tmp_path / "mnt").mkdir()
    try:
        if not Path(f"{loop}p1").exists():
            pytest.skip("this host shows no partitions of loop devices")
        run("mount", f"{loop}p1", str(tmp_path / "mnt"))
        refused(loop, f"this host has {loop}p1 mounted on {tmp_path}/mnt")
        unmount(f"{loop}p1")
        DiskImage(DiskConfig(loop)).close()
    finally:
        subprocess.run(["partx", "--delete", loop], check=False, capture_output=True)


def test_a_file_that_the_host_swaps_on(tmp_path: Path) -> None:
    path = tmp_path / "swap file"
    path.write_bytes(b"\1" * MIB)
    path.chmod(0o600)
    run("mkswap", str(path))
    if subprocess.run(["swapon", str(path)], check=False, capture_output=True).returncode:
        pytest.skip("this host does not swap on files here")
    try:
        refused(path, "this host swaps on it; see swapoff")
    finally:
        run("swapoff", str(path))
    DiskImage(DiskConfig(str(path))).close()


def test_a_file_that_another_program_has_locked(image: Path) -> None:
    """As QEMU does it: a lock of the open file on a few bytes of it."""
    with open(image, "r+b") as file:
        lock = struct.Struct("hhqqi4x").pack(fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        refused(image, "another program has it locked, like QEMU does; end that")
    DiskImage(DiskConfig(str(image))).close()
