"""Requests that follow one another in the file become one call of the backend, and each gets what is its own."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.native import lib
from tests.support.virtio_driver import IN, IOERR, OK, OUT, Disk, Request

pytestmark = pytest.mark.skipif(not lib.corral_blk_has_uring(), reason="built without liburing; only its engine merges")

OpenDisk = Callable[..., Disk]
STEP = 8  # sectors
QUEUE = 256


@pytest.fixture
def engine() -> int:
    return int(lib.CORRAL_BLK_URING)


def together(disk: Disk, requests: list[Request]) -> list[Request]:
    """Shows the device requests that were added, all at once, and waits for them."""
    disk.queues[0].show()
    disk.wait(*requests)
    return requests


def reads(disk: Disk, sectors: list[int]) -> list[Request]:
    return together(disk, [disk.add(IN, sector, room=STEP * 512) for sector in sectors])


def test_reads_in_order_are_one(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk()
    sectors = [index * STEP for index in range(32)]
    for sector, request in zip(sectors, reads(disk, sectors), strict=True):
        assert disk.status(request) == OK
        assert disk.data(request) == content[sector * 512 : (sector + STEP) * 512]
    assert disk.stats().merged == 31
    assert disk.stats().reads == 32


def test_those_in_no_order_are_not(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk()
    sectors = [index * STEP * 2 for index in range(16)]
    for sector, request in zip(sectors, reads(disk, sectors), strict=True):
        assert disk.data(request) == content[sector * 512 : (sector + STEP) * 512]
    assert disk.stats().merged == 0


def test_writes_in_order_are_one_and_reads_between_them_end_it(open_disk: OpenDisk, image: Path) -> None:
    disk = open_disk()
    new = random.Random(3).randbytes(12 * STEP * 512)
    parts = [new[at : at + STEP * 512] for at in range(0, len(new), STEP * 512)]
    requests = [disk.add(OUT, index * STEP, part) for index, part in enumerate(parts[:8])]
    requests.append(disk.add(IN, 8 * STEP, room=512))
    requests += [disk.add(OUT, index * STEP, part) for index, part in enumerate(parts) if index >= 8]
    assert [disk.status(request) for request in together(disk, requests)] == [OK] * 13
    assert disk.stats().merged == 7 + 3
    assert image.read_bytes()[: len(new)] == new


def test_what_must_be_stable_is_written_alone(open_disk: OpenDisk) -> None:
    disk = open_disk(write_through=True)
    together(disk, [disk.add(OUT, index * STEP, bytes(STEP * 512)) for index in range(8)])
    assert disk.stats().merged == 0


def test_an_image_that_has_shrunk_fails_all_of_them(open_disk: OpenDisk, image: Path) -> None:
    disk = open_disk()
    os.truncate(image, 10 * STEP * 512)
    done = reads(disk, [index * STEP for index in range(16)])
    assert [disk.status(request) for request in done] == [IOERR] * 16


@pytest.mark.parametrize("fault", [0, errno.EIO, errno.EINTR], ids=["short", "EIO", "EINTR"])
def test_with_faults_each_has_its_own_bytes_or_an_error(open_disk: OpenDisk, content: bytes, fault: int) -> None:
    disk = open_disk(fault_every=3, fault_errno=fault)
    for _ in range(20):
        done = reads(disk, [index * STEP for index in range(32)])
        for index, request in enumerate(done):
            if fault != errno.EIO:
                assert disk.status(request) == OK
            if disk.status(request) == OK:
                assert disk.data(request) == content[index * STEP * 512 : (index + 1) * STEP * 512]


def test_more_segments_than_there_is_room_for_at_once(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=QUEUE)
    sectors = range(QUEUE - 1)
    for _ in range(4):
        done = together(disk, [disk.add(IN, s, room=512, sizes=[16] * 31, indirect=True) for s in sectors])
        for sector, request in zip(sectors, done, strict=True):
            assert disk.status(request) == OK
            assert disk.data(request) == content[sector * 512 : (sector + 1) * 512]
    assert disk.stats().merged
