"""The names in an initramfs, however it is packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.boot import initramfs_content
from corral.boot.file import ImageFile
from corral.boot.initramfs_content import Content, read
from tests.support import kernels

Save = Callable[[bytes], Path]
FILES = [("init", b"#!"), ("usr/lib/modules/6.1/virtio-mmio.ko.xz", b"x" * 5001), ("./lib/virtio_blk.ko", b"")]
EARLY = kernels.cpio([("kernel/x86/microcode/AuthenticAMD.bin", bytes(70_000))])


def content(path: Path) -> Content | None:
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
