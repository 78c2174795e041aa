"""Copy-on-write: what is written stays in the overlay, whatever else is written at the same time."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.virtio_driver import DISCARD, IN, IOERR, OK, OUT, WRITE_ZEROES, Disk, ranges
from tests.unit.blk.conftest import SIZE

Layered = Callable[..., Disk]


@pytest.fixture
def layered(open_disk: Callable[..., Disk], tmp_path: Path) -> Iterator[Layered]:
    fds: list[int] = []

    def make(**options: Any) -> Disk:
        fds.append(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC))
        return open_disk(flags=os.O_RDONLY, overlay_fd=fds[-1], **options)

    make.fds = fds  # type: ignore[attr-defined]
    yield make
    for fd in fds:
        os.close(fd)


def test_two_guests_of_one_image_see_their_own_writes(layered: Layered, image: Path, content: bytes) -> None:
    first, second = layered(), layered()
    first.write(3, b"1" * 1024)
    second.write(4, b"2" * 4096)
    assert first.read(0, SIZE) == content[:1536] + b"1" * 1024 + content[2560:]
    assert second.read(0, SIZE) == content[:2048] + b"2" * 4096 + content[6144:]
    assert image.read_bytes() == content


def test_it_costs_what_was_written(layered: Layered) -> None:
    disk = layered()
    fd = layered.fds[0]  # type: ignore[attr-defined]
    assert os.fstat(fd).st_blocks == 0
    disk.read(0, SIZE)
    disk.write(0, bytes(512))
    disk.write(800, bytes(4096))
    assert os.fstat(fd).st_blocks * 512 <= 64 << 10
    disk.write(0, bytes(SIZE // 2))
    before = os.fstat(fd).st_blocks
    assert disk.do(WRITE_ZEROES, data=ranges((0, SIZE // 512, 0))) == OK
    assert os.fstat(fd).st_blocks < before
    assert disk.read(0, SIZE) == bytes(SIZE)


def test_zeros_and_discards_hide_the_image(layered: Layered, content: bytes) -> None:
    disk = layered()
    assert disk.do(WRITE_ZEROES, data=ranges((1, 2, 0), (15, 30, 1))) == OK
    expected = bytearray(content)
    expected[512:1536] = bytes(1024)
    expected[15 * 512 : 45 * 512] = bytes(30 * 512)
    assert disk.read(0, SIZE) == expected
    assert disk.do(DISCARD, data=ranges((100, 20, 0))) == OK  # 104 to 120 are whole granules
    expected[104 * 512 : 120 * 512] = bytes(16 * 512)
    assert disk.read(0, SIZE) == expected


def test_a_truncated_image_is_an_error_and_not_zeros(layered: Layered, image: Path) -> None:
    disk = layered()
    os.truncate(image, 8192)
    assert disk.do(IN, 16, room=512) == IOERR
    assert disk.do(OUT, 16, bytes(512)) == IOERR  # the rest of its granule is gone
    assert disk.do(OUT, 16, bytes(4096)) == OK
    assert disk.read(16, 4096) == bytes(4096)


@pytest.mark.parametrize("faults", [0, 2, 7])
def test_parts_of_granules_written_at_once_are_all_there(layered: Layered, content: bytes, faults: int) -> None:
    """Sectors of the same few granules, each once, in any order and all in flight: none undoes another."""
    for turn in range(6):
        disk = layered(queues=2, queue_size=256, fault_every=faults)
        dice = random.Random(turn)
        expected = bytearray(content)
        at = 0
        pieces = []
        while at < 640:
            sectors = dice.choice([1, 1, 2, 3, 8, 9, 16])
            pieces.append((at, sectors))
            at += sectors
        dice.shuffle(pieces)
        requests = []
        for i, (sector, sectors) in enumerate(pieces):
            if dice.random() < 0.2:
                data = bytes(sectors * 512)
                requests.append(disk.add(WRITE_ZEROES, data=ranges((sector, sectors, 0)), queue=i % 2, indirect=True))
            else:
                data = dice.randbytes(sectors * 512)
                requests.append(disk.add(OUT, sector, data, queue=i % 2, indirect=True))
            expected[sector * 512 : (sector + sectors) * 512] = data
        disk.wait()
        assert {disk.status(request) for request in requests} == {OK}
        assert disk.read(0, SIZE) == expected


def test_a_stop_and_a_start_keep_the_overlay(layered: Layered, content: bytes) -> None:
    disk = layered()
    disk.write(1, b"kept".ljust(512))
    disk.stop()
    disk.start()
    assert disk.read(0, 1024) == content[:512] + b"kept".ljust(512)
