"""Files are read out of ext2, ext3 and ext4 as they were put in, and damaged file systems do no harm."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.files import ext4
from corral.files.ext4_files import Ext4Files
from corral.files.file import Flaw
from tests.unit.images.test_ext4 import reader

LAYOUTS = {
    "ext2, blocks of 1 KiB": ("-t", "ext2", "-b", "1024"),
    "ext2 of revision 0": ("-t", "ext2", "-r", "0", "-b", "1024"),
    "ext3": ("-t", "ext3", "-b", "2048"),
    "ext4": ("-t", "ext4", "-b", "4096"),
    "without 64bit": ("-t", "ext4", "-O", "^64bit,^metadata_csum"),
    "inline data": ("-t", "ext4", "-O", "inline_data", "-I", "256"),
    "meta_bg": ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"),
    "without sparse_super": ("-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,^sparse_super"),
    "bigalloc": ("-t", "ext4", "-O", "bigalloc", "-C", "16384"),
}


def fill(folder: Path) -> None:
    (folder / "boot" / "deep" / "er").mkdir(parents=True)
    (folder / "boot" / "vmlinuz-6").write_bytes(os.urandom(3_000_000))
    (folder / "boot" / "small").write_bytes(b"forty-two bytes")
    (folder / "boot" / "empty").write_bytes(b"")
    with open(folder / "boot" / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(1_500_000)
        file.write(b"tail")
    (folder / "many").mkdir()
    for number in range(700):
        (folder / "many" / f"a-name-of-some-length-{number:04}").write_bytes(b"%d" % number)
    (folder / "usr" / "lib").mkdir(parents=True)
    (folder / "lib").symlink_to("usr/lib")
    (folder / "vmlinuz").symlink_to("boot/vmlinuz-6")
    (folder / "absolute").symlink_to("/boot/deep/../small")
    (folder / "outside").symlink_to("../../../../boot/small")
    (folder / "long").symlink_to("/".join(["boot", *[".."] * 1, *["boot", ".."] * 40, "boot", "small"]))
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("/run/nothing")


@cache
def image(layout: str) -> tuple[bytes, dict[str, bytes]]:
    """The file system, and the plain files that are in it."""
    import tempfile

    tool = shutil.which("mke2fs")
    if tool is None:
        pytest.skip("e2fsprogs is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name) / "tree", Path(name) / "image"
        fill(folder)
        path.write_bytes(b"")
        os.truncate(path, 48 << 20)
        options = LAYOUTS[layout]
        done = make(tool, options, folder, path)
        if b"-r option has been removed" in done.stderr:  # in newer ones it has another name
            options = (*options[: options.index("-r")], "-E", "revision=0", *options[options.index("-r") + 2 :])
            done = make(tool, options, folder, path)
        assert done.returncode == 0, done.stderr
        files = {f"/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return path.read_bytes(), files


def make(tool: str, options: tuple[str, ...], folder: Path, path: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([tool, "-q", "-F", *options, "-d", str(folder), str(path)], capture_output=True, check=False)


def opened(data: bytes) -> Ext4Files:
    system = ext4.superblock(reader(data))
    assert system is not None
    return Ext4Files(reader(data), system)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_comes_out_as_it_went_in(layout: str) -> None:
    data, expected = image(layout)
    files = opened(data)
    for path, content in expected.items():
        found = files.content(path, 4 << 20)
        assert found is not None, path
        assert hashlib.sha256(found).digest() == hashlib.sha256(content).digest(), path
    assert files.names("/boot") == ["deep", "empty", "small", "sparse", "vmlinuz-6"]
    assert len(files.names("/many")) == 700


def test_links_are_followed_within_the_file_system() -> None:
    data, expected = image("ext4")
    files = opened(data)
    for path in ("/absolute", "/outside", "/long", "boot/small", "/boot/./deep/../small", "//boot//small/"):
        assert files.content(path, 100) == expected["/boot/small"], path
    assert files.content("/vmlinuz", 4 << 20) == expected["/boot/vmlinuz-6"]
    assert files.link("/lib") == "usr/lib"
    for path in ("/loop", "/dangling", "/missing", "/boot/small/x", "/boot/deep"):
        assert files.content(path, 100) is None, path
    assert (files.has("/dangling"), files.has("/missing"), files.find("/dangling")) == (True, False, None)
    assert files.names("/boot/small") == files.names("/missing") == []
    assert files.content("/boot/small", 5) is None, "longer than was asked for"


def test_features_that_are_not_known_are_refused() -> None:
    data = bytearray(image("ext4")[0])
    data[1024 + 0x60] |= 1  # compression
    with pytest.raises(Flaw, match="features that Corral does not know"):
        opened(bytes(data))


def test_a_file_system_that_is_cut_off() -> None:
    data, _ = image("ext4")
    with pytest.raises(Flaw, match="cut off"):
        opened(data[: 1 << 20]).content("/boot/vmlinuz-6", 4 << 20)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["ext2, blocks of 1 KiB", "ext4", "inline data"]),
    st.lists(st.tuples(st.integers(0, 400 << 10), st.binary(min_size=1, max_size=12)), min_size=1, max_size=40),
)
def test_damage_is_a_flaw_or_other_content_and_never_takes_long(layout: str, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(image(layout)[0][: 8 << 20])
    for offset, new in changes:
        data[offset : offset + len(new)] = new
    system = ext4.superblock(reader(bytes(data)))
    if system is None:
        return
    try:
        files = Ext4Files(reader(bytes(data)), system)
        for path in ("/boot/vmlinuz-6", "/boot/sparse", "/absolute", "/long", "/many/a-name-of-some-length-0001"):
            found = files.content(path, 4 << 20)
            assert found is None or len(found) <= 4 << 20
        files.names("/boot")
    except Flaw:
        pass


def test_a_list_of_blocks_that_leads_to_itself_ends() -> None:
    """Every block of the file system is the same list of extents, which leads to itself."""
    import struct

    data, _ = image("ext4")
    system = ext4.superblock(reader(data))
    assert system is not None
    files = Ext4Files(reader(data), system)
    node = files.find("/boot/vmlinuz-6")
    assert node is not None
    for depth in range(1, 6):
        header = struct.pack("<HHHHI", 0xF30A, 340, 340, depth - 1, 0)
        entries = b"".join(struct.pack("<IIHH", number, 5, 0, 0) for number in range(340))
        hostile = (header + entries).ljust(4096, b"\0")
        root = struct.pack("<HHHHI", 0xF30A, 4, 4, depth, 0) + struct.pack("<IIHH", 0, 5, 0, 0) * 4
        looped = Ext4Files(lambda offset, length, block=hostile: block[:length], system)  # type: ignore[misc]
        from corral.files.ext4_files import Ext4Node

        with pytest.raises(Flaw):
            list(looped.pieces(Ext4Node(12, node.mode, 1 << 40, node.flags, root)))
