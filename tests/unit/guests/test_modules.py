"""A kernel's modules in the order of their dependencies, and the initramfs that has them."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.boot import initramfs_content
from corral.errors import HostError
from corral.files.file import ImageFile
from corral.guests import root_initramfs
from corral.guests.modules import load_order
from tests.support import kernels


def module(folder: Path, name: str, depends: str) -> None:
    content = b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0"
    packed = name.endswith("xz")
    (folder / f"{name.removesuffix('.xz')}.ko{'.xz' * packed}").write_bytes(
        lzma.compress(content) if packed else content
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "drivers" / "block").mkdir(parents=True)
    module(tmp_path, "ring", "")
    module(tmp_path / "drivers", "bus-device", "ring")
    module(tmp_path / "drivers" / "block", "disk.xz", "bus_device,ring,built_in")
    return tmp_path


def names(tree: Path, *modules: str) -> list[str]:
    return [name for name, _ in load_order(str(tree), list(modules))]


def test_what_is_depended_on_comes_first_and_once(tree: Path) -> None:
    assert names(tree, "disk") == ["ring.ko", "bus_device.ko", "disk.ko"]
    assert names(tree, "ring", "disk", "ring") == ["ring.ko", "bus_device.ko", "disk.ko"]


def test_what_is_not_there_is_built_in(tree: Path) -> None:
    assert names(tree, "ext4", "ring") == ["ring.ko"]


def test_compressed_modules_come_unpacked(tree: Path) -> None:
    assert all(content.startswith(b"\x7fELF") for _, content in load_order(str(tree), ["disk"]))


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("zst", kernels.zstd), ("xz", lzma.compress)])
def test_every_packing_of_distributions(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    content = b"\x7fELF...\0depends=\0name=one\0"
    (tmp_path / f"one.ko.{ending}").write_bytes(pack(content))
    assert load_order(str(tmp_path), ["one"]) == [("one.ko", content)]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])  # zstd's library does not tell that an end is missing
def test_a_damaged_module_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b"\x7fELF...\0depends=\0name=one\0")
    (tmp_path / "one.ko.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(HostError, match=r"one\.ko.*copy or build it again"):
        load_order(str(tmp_path), ["one"])


def test_the_archive_has_them_by_name_and_by_number(tmp_path: Path) -> None:
    """Init loads them by number, and the preflight, which reads any initramfs, knows them by name."""
    archive = root_initramfs.archive({"init": b"program"}, [("virtio_mmio.ko", b"first"), ("ext4.ko", b"second")])
    assert archive.index(b"modules/00\0") < archive.index(b"modules/01\0")
    assert archive.index(b"init\0") < archive.index(b"program")
    assert b"TRAILER!!!" in archive
    (tmp_path / "initramfs").write_bytes(archive)
    with ImageFile(tmp_path / "initramfs", "initrd") as file:
        content = initramfs_content.read(file)
    assert content
    assert content.has_module("virtio_mmio")
    assert content.has_module("ext4")
    assert not content.has_module("virtio_blk")
