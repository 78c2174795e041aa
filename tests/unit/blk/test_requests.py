"""Every kind of request over every engine: status, used length, bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.native import lib
from tests.support.virtio_driver import (
    DEFAULT_FEATURES,
    DISCARD,
    F_DISCARD,
    F_EVENT_IDX,
    F_FLUSH,
    F_INDIRECT_DESC,
    F_WRITE_ZEROES,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    OK,
    OUT,
    UNMAP,
    UNSUPP,
    WRITE_ZEROES,
    Disk,
    ranges,
)
from tests.unit.blk.conftest import SIZE

OpenDisk = Callable[..., Disk]
LAST = SIZE // 512 - 1


def test_a_read_gives_what_the_image_has(disk: Disk, content: bytes) -> None:
    assert disk.read(0, 4096) == content[:4096]
    assert disk.read(LAST, 512) == content[-512:]
    assert disk.read(3, 512 * 9) == content[3 * 512 : 12 * 512]


def test_a_write_reaches_the_image_and_is_read_back(disk: Disk, image: Path) -> None:
    disk.write(7, b"x" * 1024)
    assert disk.read(7, 1024) == b"x" * 1024
    assert image.read_bytes()[7 * 512 : 9 * 512] == b"x" * 1024


def test_the_whole_disk_in_one_request(disk: Disk, content: bytes) -> None:
    assert disk.read(0, SIZE) == content
    disk.write(0, content[::-1])
    assert disk.read(0, SIZE, sizes=[1, 511, 4096, 77]) == content[::-1]


@pytest.mark.parametrize("framing", ["usual", "joined"])
@pytest.mark.parametrize("sizes", [(), (1,), (15, 1, 3), (17, 500, 512, 1000)])
@pytest.mark.parametrize("indirect", [False, True])
def test_segments_are_the_drivers_choice(
    disk: Disk, content: bytes, framing: str, sizes: tuple[int, ...], indirect: bool
) -> None:
    options = {"framing": framing, "sizes": sizes, "indirect": indirect}
    assert disk.read(5, 2048, **options) == content[5 * 512 : 9 * 512]
    disk.write(6, content[:1536], **options)
    assert disk.read(6, 1536) == content[:1536]


@pytest.mark.parametrize(
    ("kind", "sector", "data", "room", "status"),
    [
        pytest.param(IN, LAST + 1, b"", 512, IOERR, id="read behind the end"),
        pytest.param(IN, LAST, b"", 1024, IOERR, id="read over the end"),
        pytest.param(IN, 2**64 - 1, b"", 512, IOERR, id="read with an offset that wraps"),
        pytest.param(IN, 2**55, b"", 512, IOERR, id="read with an offset that wraps in bytes"),
        pytest.param(IN, 0, b"", 511, IOERR, id="read of a part of a sector"),
        pytest.param(IN, 0, b"data", 512, IOERR, id="read with data"),
        pytest.param(IN, LAST + 1, b"", 0, OK, id="read of nothing at the end"),
        pytest.param(IN, LAST + 2, b"", 0, IOERR, id="read of nothing behind the end"),
        pytest.param(OUT, LAST + 1, bytes(512), 0, IOERR, id="write behind the end"),
        pytest.param(OUT, 2**64 - 1, bytes(1024), 0, IOERR, id="write with an offset that wraps"),
        pytest.param(OUT, 0, bytes(513), 0, IOERR, id="write of a part of a sector"),
        pytest.param(OUT, 0, bytes(512), 512, IOERR, id="write with room"),
        pytest.param(GET_ID, 0, b"", 19, IOERR, id="no room for the id"),
        pytest.param(DISCARD, 0, b"", 0, IOERR, id="discard of nothing"),
        pytest.param(DISCARD, 0, bytes(15), 0, IOERR, id="discard with a part of a range"),
        pytest.param(DISCARD, 0, bytes(16 * 17), 0, IOERR, id="discard of too many ranges"),
        pytest.param(DISCARD, 0, ranges((LAST, 2, 0)), 0, IOERR, id="discard over the end"),
        pytest.param(DISCARD, 0, ranges((2**64 - 1, 2, 0)), 0, IOERR, id="discard that wraps"),
        pytest.param(DISCARD, 0, ranges((0, 2**32 - 1, 0)), 0, IOERR, id="discard of too much"),
        pytest.param(DISCARD, 0, ranges((0, 8, UNMAP)), 0, UNSUPP, id="discard with a flag"),
        pytest.param(WRITE_ZEROES, 0, ranges((0, 8, 2)), 0, UNSUPP, id="write zeroes with an unknown flag"),
        pytest.param(WRITE_ZEROES, 0, ranges((0, 8, 0), (LAST, 2, 0)), 0, IOERR, id="a bad range after a good one"),
        pytest.param(2, 0, b"", 0, UNSUPP, id="scsi"),
        pytest.param(14, 0, ranges((0, 8, 0)), 0, UNSUPP, id="secure erase"),
        pytest.param(0xFFFFFFFF, 0, b"", 512, UNSUPP, id="unknown"),
        pytest.param(0x80000000, 0, b"", 512, UNSUPP, id="a legacy barrier"),
    ],
)
def test_what_is_asked_wrongly_is_answered(
    disk: Disk, image: Path, content: bytes, kind: int, sector: int, data: bytes, room: int, status: int
) -> None:
    request = disk.add(kind, sector, data, room)
    disk.wait(request)
    assert disk.status(request) == status
    assert request.written == (1 if not room or status == OK else 0)
    if room:
        assert disk.data(request) == b"\xee" * room
    assert image.read_bytes() == content
    assert not disk.failed
    assert disk.read(0, 512) == content[:512]


def test_a_header_that_is_too_short_gets_an_error(disk: Disk) -> None:
    gpa = disk.allocate(32)
    queue = disk.queues[0]
    queue.add([(gpa, 15)], [(gpa + 16, 1)])
    queue.show(True)
    while queue.used_idx != 1:
        disk.wait_interrupt(1)
    assert disk.memory.read(gpa + 16, 1)[0] == IOERR
    assert queue.take_used()[0][1] == 1


def test_a_chain_without_room_for_a_status_comes_back(disk: Disk, content: bytes) -> None:
    gpa = disk.allocate(16)
    disk.memory.write(gpa, bytes(16))
    queue = disk.queues[0]
    queue.add([(gpa, 16)], [])
    queue.show(True)
    while queue.used_idx != 1:
        disk.wait_interrupt(1)
    assert queue.take_used()[0][1] == 0
    assert disk.read(0, 512) == content[:512]


def test_get_id(open_disk: OpenDisk) -> None:
    disk = open_disk(id=b"corral-0001")
    request = disk.add(GET_ID, room=20)
    disk.wait(request)
    assert disk.data(request) == b"corral-0001".ljust(20, b"\0")
    assert (disk.status(request), request.written) == (OK, 21)


@pytest.mark.parametrize("flags", [0, UNMAP])
def test_write_zeroes(disk: Disk, image: Path, content: bytes, flags: int) -> None:
    assert disk.do(WRITE_ZEROES, data=ranges((3, 17, flags), (100, 0, 0), (200, 300, flags))) == OK
    expected = bytearray(content)
    expected[3 * 512 : 20 * 512] = bytes(17 * 512)
    expected[200 * 512 : 500 * 512] = bytes(300 * 512)
    assert disk.read(0, SIZE) == image.read_bytes() == expected


def test_discard_frees_the_host_s_space_and_nothing_else(disk: Disk, image: Path, content: bytes) -> None:
    before = image.stat().st_blocks
    assert disk.do(DISCARD, data=ranges((256, 1024, 0))) == OK
    assert image.stat().st_blocks < before
    found = disk.read(0, SIZE)
    assert found[: 256 * 512] == content[: 256 * 512]
    assert found[1280 * 512 :] == content[1280 * 512 :]


@pytest.mark.parametrize(("kind", "bit"), [(DISCARD, F_DISCARD), (WRITE_ZEROES, F_WRITE_ZEROES)])
def test_what_was_not_negotiated_is_not_supported(
    open_disk: OpenDisk, image: Path, content: bytes, kind: int, bit: int
) -> None:
    disk = open_disk(features=DEFAULT_FEATURES & ~(1 << bit))
    assert disk.do(kind, data=ranges((0, 8, 0))) == UNSUPP
    assert image.read_bytes() == content


def test_a_read_only_disk_is_not_written(open_disk: OpenDisk, image: Path, content: bytes) -> None:
    disk = open_disk(read_only=True)  # though the descriptor would let us
    assert disk.do(OUT, 0, bytes(512)) == IOERR
    assert disk.do(DISCARD, data=ranges((0, 8, 0))) == IOERR
    assert disk.do(WRITE_ZEROES, data=ranges((0, 8, 0))) == IOERR
    assert disk.do(FLUSH) == OK
    assert disk.read(0, SIZE) == image.read_bytes() == content


def test_many_requests_on_many_queues(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queues=4, queue_size=64)
    for turn in range(5):
        reads = [(i, disk.add(IN, i * 8, room=4096, queue=i % 4, indirect=bool((i + turn) % 2))) for i in range(4 * 20)]
        disk.wait()
        for i, request in reads:
            assert disk.status(request) == OK
            assert disk.data(request) == content[i * 4096 : (i + 1) * 4096]
    assert sum(disk.stats(queue).reads for queue in range(4)) == 400


@pytest.mark.parametrize(
    "features", [DEFAULT_FEATURES, DEFAULT_FEATURES & ~(1 << F_EVENT_IDX), 0, 1 << F_INDIRECT_DESC]
)
def test_rings_go_round_and_round(open_disk: OpenDisk, content: bytes, features: int) -> None:
    disk = open_disk(features=features, queue_size=8)
    for turn in range(300):
        requests = [disk.add(IN, (turn + i) % 100, room=512) for i in range(1 + turn % 2)]
        disk.wait()
        for i, request in enumerate(requests):
            at = (turn + i) % 100 * 512
            assert disk.data(request) == content[at : at + 512]


def test_indices_wrap(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=1024)
    for _ in range(66_000 // 340):
        for i in range(340):
            disk.add(IN, i, room=512, indirect=True)
        disk.wait()
    assert disk.read(9, 512) == content[9 * 512 : 10 * 512]
    assert disk.stats().errors == 0


def test_a_queue_of_the_largest_size_full_of_requests(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=1024)
    requests = [disk.add(IN, i, room=512, indirect=True) for i in range(1024)]
    disk.wait()
    assert b"".join(map(disk.data, requests)) == content[: 512 * 1024]


def test_the_longest_chain(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=256)
    assert disk.read(0, 8 * 512, sizes=[1] * (lib.CORRAL_BLK_SEG_MAX - 1)) == content[: 8 * 512]


@pytest.mark.parametrize("length", [512, 4096, 5 * 512, 512 * 1024])
@pytest.mark.parametrize("alignment", [1, 16, 512, 4096])
@pytest.mark.parametrize("block_size", [512, 4096])
def test_o_direct_takes_any_buffer(
    open_disk: OpenDisk, content: bytes, image: Path, length: int, alignment: int, block_size: int
) -> None:
    try:
        disk = open_disk(flags=os.O_RDWR | os.O_DIRECT, direct=True, block_size=block_size)
    except OSError:
        pytest.skip("no O_DIRECT on this file system")
    disk.allocate(1)
    gap = disk.add(GET_ID, room=21)  # shifts what comes after it
    assert disk.read(8, length, alignment=alignment) == content[4096 : 4096 + length]
    assert disk.read(3, length, alignment=alignment, sizes=[100, 412]) == content[1536 : 1536 + length]
    whole = length % block_size == 0
    assert disk.do(OUT, 16, bytes(length), alignment=alignment, sizes=[100]) == (OK if whole else IOERR)
    expected = bytearray(content)
    if whole:
        expected[8192 : 8192 + length] = bytes(length)
    assert image.read_bytes() == expected
    assert gap.done


@pytest.mark.parametrize("mode", ["config", "features", "writeback"])
def test_write_through(open_disk: OpenDisk, image: Path, mode: str) -> None:
    features = DEFAULT_FEATURES & ~(1 << F_FLUSH) if mode == "features" else DEFAULT_FEATURES
    disk = open_disk(write_through=mode == "config", features=features)
    if mode == "writeback":
        assert lib.corral_blk_set_writeback(disk.blk, False) == 0
    disk.write(0, b"a" * 4096)
    assert disk.do(WRITE_ZEROES, data=ranges((2, 2, 0))) == OK
    assert image.read_bytes()[:4096] == b"a" * 1024 + bytes(1024) + b"a" * 2048
    disk.flush()


def test_counters(disk: Disk) -> None:
    disk.write(0, bytes(1024))
    for _ in range(3):
        disk.read(0, 512)
    disk.flush()
    disk.do(GET_ID, room=20)
    disk.do(DISCARD, data=ranges((0, 8, 0)))
    disk.do(WRITE_ZEROES, data=ranges((0, 8, 0)))
    disk.do(OUT, LAST + 1, bytes(512))
    disk.do(99)
    disk.stop()
    s = disk.stats()
    assert (s.reads, s.writes, s.flushes, s.get_ids, s.discards, s.write_zeroes, s.others) == (3, 2, 1, 1, 1, 1, 1)
    assert (s.read_bytes, s.written_bytes, s.errors, s.refused) == (1536, 1024, 1, 1)
    assert sum(s.latency) == 10
    assert 1 <= s.interrupts + s.interrupts_saved <= 10
    assert s.interrupts == disk.irq.sent


def test_no_interrupt_where_none_is_wanted(open_disk: OpenDisk) -> None:
    disk = open_disk(features=0)
    disk.queues[0].no_interrupts()
    disk.add(IN, 0, room=512)
    disk.queues[0].show()
    while disk.queues[0].used_idx != 1:
        pass
    disk.stop()
    assert not disk.wait_interrupt(0)
    assert (disk.stats().interrupts, disk.stats().interrupts_saved) == (0, 1)


@pytest.mark.parametrize("depth", [1, 2, 5, 40])
def test_a_driver_that_waits_for_interrupts_never_waits_in_vain(disk: Disk, depth: int) -> None:
    for sector in range(2000):
        disk.add(OUT if sector % 3 == 0 else IN, sector % LAST, *((bytes(512), 0) if sector % 3 == 0 else (b"", 512)))
        disk.queues[0].show()
        if len(disk.flying) >= depth:
            disk.wait_shown(next(iter(disk.flying.values())))
    disk.wait()
    assert disk.stats().interrupts <= disk.stats().reads + disk.stats().writes == 2000


def test_an_interrupt_tells_what_it_is(disk: Disk) -> None:
    disk.queues[0].want_interrupt()
    disk.add(IN, 0, room=512)
    disk.queues[0].show()
    while not disk.irq.status:
        pass
    assert disk.irq.status == 1
    assert disk.wait_interrupt(10)
    assert disk.irq.status == 0
