"""Images as users have them: opened, measured, locked, and refused with the cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral.backends.disk_image import DiskImage
from corral.config import DiskConfig, ImageIdentity
from corral.errors import BootError, HostError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"data" * 1024)
    return path


def test_its_size_and_content(image: Path) -> None:
    disk = DiskImage(DiskConfig(str(image)))
    assert (disk.size, disk.block_size, os.pread(disk.fd, 4, 0), disk.overlay) == (4096, 512, b"data", -1)
    disk.close()


def test_the_sectors_are_those_of_its_partition_table(image: Path) -> None:
    for at, size in ((512, 512), (4096, 4096)):
        image.write_bytes((bytes(at) + b"EFI PART").ljust(64 << 10, b"\0"))
        for form in (False, True):
            disk = DiskImage(DiskConfig(str(image), raw=form))
            assert disk.block_size == size
            disk.close()
    image.write_bytes((bytes(4096) + b"EFI PART").ljust(65 << 9, b"\0"))
    disk = DiskImage(DiskConfig(str(image)))
    assert disk.block_size == 512, "it is no whole number of larger ones"
    disk.close()


def test_a_writer_is_alone_and_readers_are_not(image: Path) -> None:
    plain, read_only = DiskConfig(str(image)), DiskConfig(str(image), read_only=True)
    writer = DiskImage(plain)
    for other in (plain, read_only, DiskConfig(str(image), snapshot=True)):
        with pytest.raises(BootError, match=r"in use by another guest.*snapshot=on"):
            DiskImage(other)
    writer.close()
    readers = [DiskImage(read_only), DiskImage(read_only), DiskImage(DiskConfig(str(image), snapshot=True))]
    with pytest.raises(BootError, match="in use"):
        DiskImage(plain)
    for reader in readers:
        reader.close()
    DiskImage(plain).close()


def test_who_may_read_an_image_cannot_keep_its_owner_from_it(image: Path) -> None:
    """The lock of a reader is told of, with who it is, and can be passed by."""
    command = ["perl", "-e", '$| = 1; flock(STDIN, 2) and print "locked\\n"; sleep 60']  # every user may run it
    user = {"user": 65534} if os.geteuid() == 0 else {}
    with (
        open(image) as opened,
        subprocess.Popen(command, stdin=opened, stdout=subprocess.PIPE, text=True, **user) as other,  # type: ignore[call-overload]
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(BootError, match=rf"in use.*\(process {other.pid}, \S+ of \S+\).*lock=off"):
            DiskImage(DiskConfig(str(image)))
        DiskImage(DiskConfig(str(image), locked=False)).close()
        other.kill()


def test_the_lock_goes_with_its_process(image: Path) -> None:
    program = f"""
from corral.config import DiskConfig, ImageIdentity
from corral.backends.disk_image import DiskImage
disk = DiskImage(DiskConfig({str(image)!r}))
print("locked", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(BootError, match="in use"):
            DiskImage(DiskConfig(str(image)))
        other.kill()
        other.wait()
    DiskImage(DiskConfig(str(image))).close()


def test_a_snapshots_layer_is_sparse_has_no_name_and_leaves_the_image_alone(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "layers"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    disk = DiskImage(DiskConfig(str(image), snapshot=True))
    status = os.fstat(disk.overlay)
    assert (status.st_size, status.st_blocks, list(folder.iterdir())) == (4096, 0, [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(disk.fd, b"x", 0)
    disk.close()


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "odd").write_bytes(b"x" * 1000)
    os.mkfifo(tmp_path / "fifo")
    for name, words in {
        "missing": "No such file.*corral image create",
        "empty": "is empty; give it a size",
        "odd": "has 1000 bytes, not a multiple of 512",
        "fifo": "neither a file nor a block device|check it",
        ".": "Is a directory|neither a file nor a block device",
        "nul\0": "NUL",
    }.items():
        with pytest.raises(BootError, match=words):
            DiskImage(DiskConfig(str(tmp_path / name)))
        if name != "fifo":
            with pytest.raises(BootError, match=words):
                DiskImage(DiskConfig(str(tmp_path / name), read_only=True))


def test_another_format_is_refused_by_name_unless_it_is_said_to_be_raw(image: Path) -> None:
    image.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(4088))
    with pytest.raises(BootError, match=r"not a raw image: qcow2.*qemu-img convert.*,format=raw"):
        DiskImage(DiskConfig(str(image)))
    DiskImage(DiskConfig(str(image), raw=True)).close()


def test_a_snapshot_without_a_place(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostError, match=r"in /nowhere.*set TMPDIR"):
        DiskImage(DiskConfig(str(image), snapshot=True))
    assert os.listdir("/proc/self/fd") == before


def test_direct_io_or_why_not(image: Path) -> None:
    config = DiskConfig(str(image), cache="direct")
    try:
        os.close(os.open(image, os.O_RDONLY | os.O_DIRECT))
    except OSError:  # a tmpfs of older kernels
        with pytest.raises(BootError, match="no direct I/O; leave cache=direct out"):
            DiskImage(config)
        return
    disk = DiskImage(config)
    assert disk.block_size in (512, 4096)
    disk.close()


def identity(path: Path, **options: bool) -> ImageIdentity:
    disk = DiskImage(DiskConfig(str(path), **options))
    try:
        return disk.identity()
    finally:
        disk.close()


def test_an_image_is_known_again_by_size_time_and_first_bytes(image: Path, tmp_path: Path) -> None:
    known = identity(image)
    assert (known.size, known.written) == (4096, image.stat().st_mtime_ns)
    copy = tmp_path / "copy"
    shutil.copy2(image, copy)
    assert identity(copy, read_only=True) == known
    for path in (image, copy):
        DiskImage(DiskConfig(str(path), snapshot=True, identity=known)).close()
    content, then = image.read_bytes(), image.stat().st_mtime_ns
    for changed, time, text in (
        (content + bytes(512), then, "has 4608 bytes, and had 4096 when its guest was saved"),
        (content[:9] + b"x" + content[10:], then, "is another image"),
        (content, then + 1, "was written after its guest was saved"),
    ):
        image.write_bytes(changed)
        os.utime(image, ns=(time, time))
        with pytest.raises(BootError, match=text) as error:
            DiskImage(DiskConfig(str(image), identity=known))
        assert "\n" not in str(error.value)
    image.write_bytes(content)
    os.utime(image, ns=(then, then))
    DiskImage(DiskConfig(str(image), identity=known)).close()


def test_what_is_written_after_it_settled_can_be_told(image: Path) -> None:
    """However soon: Linux dates files by a clock that stands still for some milliseconds."""
    disk = DiskImage(DiskConfig(str(image)))
    for number in range(50):
        os.pwrite(disk.fd, b"before", 0)
        disk.settle()
        known = disk.identity()
        os.pwrite(disk.fd, bytes([number]), 2048 + number)
        assert disk.identity().written != known.written
    disk.close()
