"""What a disk has written over its image, as the layer of disks that go on from it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.native import ffi, lib
from tests.support.virtio_driver import IN, IOERR, OUT, Disk
from tests.unit.blk.conftest import ENGINES, SIZE
from tests.unit.blk.test_saved import OPERATIONS, SECTORS, follow

OpenDisk = Callable[..., Disk]
GRANULE: int = lib.CORRAL_BLK_GRANULE


class Layers:
    """Files of layers, and the overlays of disks on them."""

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._maps: list[Any] = []
        self.written = 0  # bytes of the last layer

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def file(self) -> int:
        self._fds.append(os.memfd_create("layer"))
        return self._fds[-1]

    def saved(self, blk: Any, size: int, before: int = GRANULE) -> dict[str, Any]:
        """Saves what a stopped disk has, and gives the fields of one that goes on."""
        fd, length = self.file(), lib.corral_blk_map_size(size)
        data_at = -(-(before + length) // GRANULE) * GRANULE
        os.ftruncate(fd, data_at + -(-size // GRANULE) * GRANULE)
        self.written = lib.corral_blk_save_layer(blk, fd, before, data_at)
        assert self.written >= 0, os.strerror(-self.written)
        self._maps.append(ffi.from_buffer("uint64_t[]", os.pread(fd, length, before)))
        layer = {"layer_fd": fd, "layer_offset": data_at, "layer_map": self._maps[-1]}
        return {"overlay_fd": self.file(), **layer}


@pytest.fixture
def layers() -> Any:
    layers = Layers()
    yield layers
    layers.close()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(ENGINES)), OPERATIONS)
def test_generations_are_one_disk(engine: str, operations: list[tuple[str, int, int, int]]) -> None:
    """Each move is to a disk whose layer holds what all before it have written. A discard over an image may keep what
    is no whole granule, so they are zeroes here."""
    operations = [("zero" if kind == "discard" else kind, *rest) for kind, *rest in operations]
    base = os.urandom(512 * SECTORS)
    content = bytearray(base)
    image, layers = os.memfd_create("image"), Layers()
    os.write(image, base)
    with Disk(image, len(base), engine=ENGINES[engine], overlay_fd=layers.file()) as disk:
        follow(disk, content, operations, lambda disk: disk.move(lambda blk: layers.saved(blk, len(base))))
        assert disk.read(0, len(content)) == content
    assert os.pread(image, len(base), 0) == base
    os.close(image)
    layers.close()


@pytest.mark.parametrize("size", [512, 4096, 4096 * 64, 4096 * 64 + 512, 4096 * 65 - 512])
def test_disks_of_any_size(size: int, engine: int, layers: Layers) -> None:
    """Also those whose last granule is short, or the last of a word of the map."""
    dice = random.Random(size)
    base = dice.randbytes(size)
    image = os.memfd_create("image")
    os.write(image, base)
    with Disk(image, size, engine=engine, overlay_fd=layers.file()) as disk:
        disk.write(size // 512 - 1, b"z" * 512)
        for _ in range(2):
            disk.move(lambda blk: layers.saved(blk, size))
            assert disk.read(0, size) == base[:-512] + b"z" * 512
    os.close(image)


def test_disks_of_one_layer_share_nothing_that_they_write(
    open_disk: OpenDisk, layers: Layers, content: bytes, image: Path
) -> None:
    parent = open_disk(flags=os.O_RDONLY, overlay_fd=layers.file())
    parent.write(3, b"p" * 1024)
    parent.stop()
    fields = layers.saved(parent.blk, SIZE)
    first = open_disk(flags=os.O_RDONLY, **fields)
    second = open_disk(flags=os.O_RDONLY, **fields | {"overlay_fd": layers.file()})
    first.write(4, b"1" * 512)
    second.write(5, b"2" * 512)
    expected = content[:1536] + b"p" * 1024 + content[2560:]
    assert first.read(0, SIZE) == expected[:2048] + b"1" * 512 + expected[2560:]
    assert second.read(0, SIZE) == expected[:2560] + b"2" * 512 + expected[3072:]
    assert image.read_bytes() == content


def test_it_costs_what_was_written(open_disk: OpenDisk, layers: Layers) -> None:
    disk = open_disk(flags=os.O_RDONLY, overlay_fd=layers.file())
    disk.write(8, b"x" * 8192)
    disk.write(800, bytes(8192))  # zeros are holes
    disk.stop()
    fields = layers.saved(disk.blk, SIZE)
    assert layers.written == 8192
    assert os.fstat(fields["layer_fd"]).st_blocks * 512 <= 4 * 4096


def test_a_layer_that_was_cut_off_is_an_error_and_not_zeros(open_disk: OpenDisk, layers: Layers) -> None:
    disk = open_disk(flags=os.O_RDONLY, overlay_fd=layers.file())
    disk.write(0, b"x" * 8192)
    disk.move(lambda blk: layers.saved(blk, SIZE))
    os.ftruncate(disk.config.layer_fd, disk.config.layer_offset + 4096)
    assert disk.read(0, 4096) == b"x" * 4096
    assert disk.do(IN, 8, room=512) == IOERR
    assert disk.do(OUT, 8, bytes(512)) == IOERR  # the rest of its granule is gone


def test_what_has_no_layer(open_disk: OpenDisk, layers: Layers) -> None:
    disk = open_disk()
    disk.stop()
    assert lib.corral_blk_save_layer(disk.blk, layers.file(), 0, GRANULE) < 0
    with pytest.raises(OSError, match="Invalid"):  # a layer, and nothing to write to
        open_disk(layer_map=ffi.new("uint64_t[]", lib.corral_blk_map_size(SIZE) // 8))
