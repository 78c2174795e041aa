"""The names in an initramfs, however it is packed."""

from __future__ import annotations

import bz2
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.boot import initramfs_content
from corral.boot.initramfs_content import InitramfsContent, read
from corral.files.file import ImageFile
from tests.support import kernels
from tests.support.cost import cost

Save = Callable[[bytes], Path]
FILES = [("init", b"#!"), ("usr/lib/modules/6.1/virtio-mmio.ko.xz", b"x" * 5001), ("./lib/virtio_blk.ko", b"")]
EARLY = kernels.cpio([("kernel/x86/microcode/AuthenticAMD.bin", bytes(70_000))])


def content(path: Path) -> InitramfsContent | None:
    with ImageFile(path, "initrd") as file:
        return read(file)


@pytest.mark.parametrize("compression", kernels.COMPRESSIONS)
@pytest.mark.parametrize("early", [b"", EARLY + bytes(512)])
def test_names(save: Save, compression: str, early: bytes) -> None:
    found = content(save(early + kernels.COMPRESSIONS[compression](kernels.cpio(FILES))))
    assert found is not None
    assert found.packing == ("" if compression == "none" else compression)
    assert {"init", "lib/virtio_blk.ko"} <= found.names
    assert [found.has_module(name) for name in ("virtio_mmio", "virtio_blk", "ext4")] == [True, True, False]
    assert ("kernel/x86/microcode/AuthenticAMD.bin" in found.names) == bool(early)


GOOD = kernels.cpio(FILES)


@pytest.mark.parametrize(
    "data",
    [b"\0" * 600, b"x" * 600, GOOD[:-200], GOOD[:100], GOOD + b"x", kernels.zstd(GOOD)[:-9], kernels.zstd(b"x" * 99)],
    ids=range(7),
)
def test_what_cannot_be_told(save: Save, data: bytes) -> None:
    assert content(save(data)) is None


def test_a_packed_bomb(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs_content, "MAX_UNPACKED", 16 << 20)
    assert content(save(kernels.zstd(kernels.cpio([("a", bytes(17 << 20))])))) is None


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(GOOD)))
@settings(deadline=None, max_examples=150)
def test_mutated(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    path = Path("/dev/shm/corral-mutated-initramfs")
    path.write_bytes(bytes(data[: max(cut, 1)]))
    try:
        content(path)  # raises nothing
    finally:
        path.unlink()


def headers(name: bytes, count: int) -> bytes:
    """The same empty file again and again."""
    fields = (0, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return (header + bytes(-len(header) % 4)) * count


def numbered(count: int, length: int) -> bytes:
    return b"".join(headers(b"%08d" % number + b"n" * (length - 8), 1) for number in range(count))


COSTLY = {
    "trailers": lambda: headers(b"TRAILER!!!", 130_000),
    "packed trailers": lambda: gzip.compress(headers(b"TRAILER!!!", 8192) * 64, 1),
    "packed names": lambda: gzip.compress(headers(b"init", 8192) * 500, 1),
    "long names": lambda: gzip.compress(numbered(5000, 4000), 1),
    "zeros": lambda: gzip.compress(kernels.cpio(FILES) + bytes(400 << 20), 1),
    "slow zeros": lambda: bz2.compress(kernels.cpio([("a", bytes(300 << 20))]), 1),
    "zeros in between": lambda: (headers(b"TRAILER!!!", 1) + bytes(4)) * 130_000,
}


@pytest.mark.parametrize("what", COSTLY)
@pytest.mark.long
def test_any_initramfs_costs_two_seconds_at_most(save: Save, what: str) -> None:
    path = save(COSTLY[what]())
    assert path.stat().st_size <= 17 << 20
    script = """
import sys
from corral.boot import initramfs, initramfs_content
from corral.files.file import Flaw, ImageFile
with ImageFile(sys.argv[1], "initrd") as file:
    initramfs_content.read(file)
    try:
        initramfs.check(file)
    except Flaw:
        pass
"""
    found = cost(sys.executable, "-c", script, str(path))
    assert (found.status, found.output) == (0, "")
    assert found.seconds < 2 + 2  # and what a busy machine makes of it
    assert found.mebibytes < 256
