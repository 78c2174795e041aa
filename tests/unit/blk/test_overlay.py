"""Copy-on-write: what is written stays in the overlay, whatever else is written at the same time."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.native import ffi, lib
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


GRANULE = 4096


def trouble(disk: Disk) -> Any:
    found = ffi.new("struct corral_blk_trouble *")
    lib.corral_blk_trouble(disk.blk, found)
    return found


def wrote(disk: Disk, sector: int, length: int, seed: int = 1) -> bool:
    return disk.do(OUT, sector, data=random.Random(seed).randbytes(length)) == OK


def held(layered: Layered) -> int:
    """Bytes that the layer takes of the host."""
    return os.fstat(layered.fds[-1]).st_blocks * 512  # type: ignore[attr-defined]


def test_it_holds_no_more_than_it_may(layered: Layered, content: bytes) -> None:
    disk = layered(overlay_most=10 * GRANULE)
    assert not trouble(disk).overlay_full
    assert wrote(disk, 0, 4 * GRANULE)
    assert wrote(disk, 101, 512)  # a part of a granule is all of it
    assert wrote(disk, 200, 5 * GRANULE)
    assert not trouble(disk).overlay_full
    assert not wrote(disk, 400, 512)
    assert not wrote(disk, 401, 2 * GRANULE)
    assert trouble(disk).overlay_full
    assert (trouble(disk).error, trouble(disk).file) == (errno.ENOSPC, 1)
    assert held(layered) <= 10 * GRANULE
    assert disk.read(400, 8 * 512) == content[400 * 512 :][: 8 * 512]
    assert wrote(disk, 1, 3 * GRANULE, seed=2)  # what is there may be written again
    assert disk.read(1, 3 * GRANULE) == random.Random(2).randbytes(3 * GRANULE)


def test_a_full_one_has_no_claim_left(layered: Layered) -> None:
    """Of a request that failed halfway: another one would wait for it for ever."""
    disk = layered(overlay_most=GRANULE)
    for _ in range(3):
        assert not wrote(disk, 3, 3 * GRANULE)
    assert disk.do(WRITE_ZEROES, data=ranges((0, 64, 0))) == OK
    assert disk.read(0, 64 * 512) == bytes(64 * 512)


def test_discards_cost_nothing_and_give_nothing_back(layered: Layered) -> None:
    disk = layered(overlay_most=2 * GRANULE)
    assert disk.do(DISCARD, data=ranges((0, SIZE // 512, 0))) == OK
    assert wrote(disk, 0, 2 * GRANULE)
    assert disk.do(DISCARD, data=ranges((0, SIZE // 512, 0))) == OK
    assert not wrote(disk, 16, GRANULE)
    assert wrote(disk, 0, 2 * GRANULE)


@pytest.mark.parametrize("queues", [1, 4])
def test_writes_and_discards_that_race_do_not_leave_more_there(layered: Layered, queues: int) -> None:
    disk = layered(overlay_most=16 * GRANULE, queues=queues)
    draw = random.Random(5)
    for _ in range(40):
        for queue in range(queues):
            for _ in range(16):
                sector = 8 * draw.randrange(SIZE // GRANULE - 2)
                if draw.randrange(2):
                    disk.add(OUT, sector, data=draw.randbytes(GRANULE), queue=queue)
                else:
                    disk.add(DISCARD, data=ranges((sector, 8, 0)), queue=queue)
        disk.wait()
        assert held(layered) <= 16 * GRANULE


def test_the_first_failure_of_the_host_is_told(layered: Layered) -> None:
    disk = layered(fault_every=1, fault_errno=errno.EIO)
    assert trouble(disk).error == 0
    assert disk.do(IN, 0, room=512) == IOERR
    assert (trouble(disk).error, trouble(disk).file, trouble(disk).overlay_full) == (errno.EIO, 0, False)
