"""What Corral reads of an ext4 file system is what dumpe2fs reads, and damaged ones do no harm."""

from __future__ import annotations

import subprocess
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.files import ext4
from corral.images import content
from corral.images.build import create
from tests.unit.images.conftest import Image

REVISION = 0x4C  # in the superblock


def reader(data: bytes) -> ext4.Read:
    return lambda offset, length: data[offset : offset + length]


def make(image: Image, *options: str, size: int = 32 << 20) -> bytes:
    image.path.write_bytes(b"")
    with image.path.open("r+b") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", *options, str(image.path)], check=True, capture_output=True)
    return image.path.read_bytes()


@pytest.mark.parametrize(
    ("options", "kind", "block"),
    [
        (("-t", "ext2", "-b", "1024", "-L", "one"), "ext2", 1024),
        (("-t", "ext3", "-b", "2048", "-L", "two"), "ext3", 2048),
        (("-t", "ext4", "-b", "4096", "-L", "sixteen letters!"), "ext4", 4096),
        (("-t", "ext4", "-b", "4096", "-O", "^64bit"), "ext4", 4096),
    ],
)
def test_what_mke2fs_made(image: Image, options: tuple[str, ...], kind: str, block: int) -> None:
    make(image, *options)
    check(image, kind, block)


def test_the_oldest_revision(image: Image) -> None:
    """Which newer mke2fs do not make any more: revision 0, whose inodes have 128 bytes."""
    data = bytearray(make(image, "-t", "ext2", "-b", "1024", "-I", "128", "-O", "none"))
    data[1024 + REVISION : 1024 + REVISION + 4] = bytes(4)
    image.path.write_bytes(data)
    check(image, "ext2", 1024)


def check(image: Image, kind: str, block: int) -> None:
    """What is read of it is what debugfs says."""
    data = image.path.read_bytes()
    system = ext4.superblock(reader(data))
    assert system is not None
    told = dict(line.split(":", 1) for line in image.ask("stats -h").splitlines() if line.count(":") >= 1)
    assert (system.kind, system.block_size, system.clean) == (kind, block, True)
    assert system.size == int(told["Block count"]) * block
    assert system.free == int(told["Free blocks"]) * block
    assert (system.inodes, system.free_inodes) == (int(told["Inode count"]), int(told["Free inodes"]))
    assert system.uuid.hex() == told["Filesystem UUID"].strip().replace("-", "")
    assert system.label.decode() == told["Filesystem volume name"].strip().replace("<none>", "")


def test_the_inodes_of_a_new_file_system(image: Image) -> None:
    data = make(image, "-t", "ext4", "-b", "4096", "-O", "^orphan_file")
    system = ext4.superblock(reader(data))
    assert system is not None
    assert [(inode.number, inode.mode) for inode in ext4.inodes(reader(data), system)] == [(2, 0o40755), (11, 0o40700)]


def test_a_label_cannot_talk_to_the_terminal(image: Image) -> None:
    data = bytearray(make(image, "-t", "ext4"))
    data[1024 + 0x78 : 1024 + 0x88] = b"\x1b]0;title\x07\xff\0rest"[:16]
    assert all(line.isprintable() for line in content.describe(reader(bytes(data))))


@cache
def sample() -> bytes:
    """The first 8 KiB of an ext4 file system: made once, and without a fixture's file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        create(f"{folder}/disk.img", 16 << 20, empty=False)
        with open(f"{folder}/disk.img", "rb") as file:
            return file.read(8192)


@pytest.mark.usefixtures("image")
class TestDamaged:
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 1022), st.binary(min_size=1, max_size=8)), max_size=6),
        st.integers(0, 8192),
    )
    def test_superblocks(self, changes: list[tuple[int, bytes]], cut: int) -> None:
        data = bytearray(sample())
        for offset, new in changes:
            data[1024 + offset : 1024 + offset + len(new)] = new
        for damaged in (bytes(data), bytes(data[:cut])):
            for line in content.describe(reader(damaged)):
                assert line.isprintable()

    @given(st.binary(max_size=3000))
    def test_noise(self, data: bytes) -> None:
        assert ext4.superblock(reader(data)) is None or data[0x438:0x43A] == b"\x53\xef"
