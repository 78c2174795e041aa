"""A kernel is unpacked once for all who look through it before it is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import boot
from corral.boot import kept_vmlinux, kernel_config
from corral.boot.bzimage import BzImage
from corral.files.file import Flaw
from corral.memory import GuestMemory
from tests.support import kernels


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    kept_vmlinux.forget()
    yield
    kept_vmlinux.forget()


@pytest.fixture
def unpackings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were unpacked."""
    found: list[str] = []
    unpack = BzImage._pieces

    def counted(kernel: BzImage) -> Iterator[bytes]:
        found.append(kernel.file.path)
        return unpack(kernel)

    monkeypatch.setattr(BzImage, "_pieces", counted)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux(), "gzip")))
    return path


def content(path: Path) -> bytes:
    with boot.open_kernel(path) as kernel:
        assert isinstance(kernel, BzImage)
        return b"".join(kernel.vmlinux_pieces())


def test_it_is_kept_until_it_is_loaded(path: Path, unpackings: list[str]) -> None:
    assert content(path) == content(path) == kernels.vmlinux()
    with boot.open_kernel(path) as kernel:
        assert kernel_config.find(kernel, None) is None
        assert unpackings == [str(path)]
        memory = GuestMemory(64 << 20)
        kernel.load(memory, b"", None)
        memory.close()
    assert unpackings == [str(path)]
    assert content(path) == kernels.vmlinux()
    assert len(unpackings) == 2


def test_another_file_and_another_content_are_unpacked(path: Path, tmp_path: Path, unpackings: list[str]) -> None:
    other = tmp_path / "other"
    other.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux(segments=(kernels.text_segment(b"x"),)), "gzip")))
    assert content(path) != content(other)
    assert content(path) == kernels.vmlinux()
    path.write_bytes(other.read_bytes())
    assert content(path) == content(other)
    assert len(unpackings) >= 4


def test_what_was_not_read_to_its_end_is_not_kept(path: Path, unpackings: list[str]) -> None:
    with boot.open_kernel(path) as kernel:
        assert isinstance(kernel, BzImage)
        pieces = kernel.vmlinux_pieces()
        next(pieces)
        del pieces
    before = len(os.listdir("/proc/self/fd"))
    assert content(path) == kernels.vmlinux()
    assert len(unpackings) == 2
    kept_vmlinux.forget()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_damaged_is_not_kept(tmp_path: Path, unpackings: list[str]) -> None:
    path = tmp_path / "vmlinuz"
    whole = kernels.payload(kernels.vmlinux(), "gzip")
    path.write_bytes(kernels.bzimage(whole[:-4] + (len(kernels.vmlinux()) + 1).to_bytes(4, "little")))
    for _ in range(2):
        with pytest.raises(Flaw):
            content(path)
    assert len(unpackings) == 2
