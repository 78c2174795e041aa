"""A disk that goes on with the driver of another: nothing is lost, done twice, or failed that had not failed before."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.native import ffi, lib
from tests.support import blk_record
from tests.support.full_pipe import full_pipe
from tests.support.virtio_driver import DISCARD, FLUSH, IN, IOERR, OK, OUT, WRITE_ZEROES, Disk, ranges
from tests.unit.blk.conftest import ENGINES

OpenDisk = Callable[..., Disk]
SECTORS = 64

SECTOR = st.integers(0, SECTORS - 1)
WRITES = st.tuples(st.just("write"), SECTOR, st.integers(1, 8), st.integers(1, 255))
READS = st.tuples(st.just("read"), SECTOR, st.integers(1, 8), st.just(0))
ZEROES = st.tuples(st.sampled_from(["zero", "discard"]), SECTOR, st.integers(1, 8), st.just(0))
OTHERS = st.tuples(st.sampled_from(["flush", "move", "moved while it works", "wait"]), *[st.just(0)] * 3)
OPERATIONS = st.lists(st.one_of(WRITES, READS, ZEROES, OTHERS), max_size=40)


def follow(
    disk: Disk,
    content: bytearray,
    operations: list[tuple[str, int, int, int]],
    move: Callable[[Disk], None] = lambda disk: disk.move(),
) -> None:
    """Requests do not wait for one another unless the same sectors are theirs."""
    busy: set[int] = set()
    expected: list[tuple[object, bytes]] = []

    def wait() -> None:
        disk.wait()
        for request, data in expected:
            assert disk.status(request) == OK  # type: ignore[arg-type]
            assert disk.data(request) == data  # type: ignore[arg-type]
        expected.clear()
        busy.clear()

    for name, sector, count, value in operations:
        count = min(count, SECTORS - sector)
        sectors = set(range(sector, sector + count)) if name in ("read", "write", "zero", "discard") else set()
        if sectors & busy or len(disk.flying) > 20:
            wait()
        busy |= sectors
        place, data = slice(512 * sector, 512 * (sector + count)), b""
        if name == "write":
            content[place] = bytes([value]) * (512 * count)
            request = disk.add(OUT, sector, bytes(content[place]))
        elif name == "read":
            data = bytes(content[place])
            request = disk.add(IN, sector, room=512 * count)
        elif name in ("zero", "discard"):
            content[place] = bytes(512 * count)
            kind, flags = (WRITE_ZEROES, 0) if name == "zero" else (DISCARD, 0)
            request = disk.add(kind, data=ranges((sector, count, flags)))
        elif name == "flush":
            request = disk.add(FLUSH)
        else:
            if name != "moved while it works":
                wait()
            if name != "wait":
                disk.queues[0].show()
                move(disk)
            continue
        expected.append((request, data))
        disk.queues[0].show()
    wait()


@settings(max_examples=60)
@given(st.sampled_from(sorted(ENGINES)), OPERATIONS)
def test_it_answers_as_one_disk_would(engine: str, operations: list[tuple[str, int, int, int]]) -> None:
    content = bytearray(os.urandom(512 * SECTORS))
    fd = os.memfd_create("image")
    os.write(fd, content)
    with Disk(fd, len(content), engine=ENGINES[engine]) as disk:
        follow(disk, content, operations)
        assert disk.read(0, len(content)) == content
    os.close(fd)


def test_what_is_queued_and_in_flight_is_answered_once_and_well(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=1024, queues=2)
    for turn in range(30):
        requests = [disk.add(IN, i, room=4096, indirect=True, queue=i % 2) for i in range(200)]
        for queue in disk.queues:
            queue.show(True)
        time.sleep(0.0003 * (turn % 4))
        disk.move()
        disk.wait()
        for i, request in enumerate(requests):
            assert disk.status(request) == OK
            assert disk.data(request) == content[i * 512 : i * 512 + 4096]


@pytest.mark.long
def test_a_disk_whose_host_does_not_answer_goes_on(engine: int, image: Path, content: bytes) -> None:
    """A hold ends in time, and has changed nothing."""
    reader, writer = full_pipe()
    fd = os.open(image, os.O_RDWR)
    disk = Disk(fd, len(content), engine=engine, record_fd=writer)
    disk.start()
    requests = [disk.add(IN, i, room=512) for i in range(20)]
    disk.queues[0].show(True)
    time.sleep(0.2)  # until it has taken one
    started = time.monotonic()
    assert lib.corral_blk_hold(disk.blk) == -errno.ETIMEDOUT
    assert time.monotonic() - started < lib.CORRAL_WORKER_HOLD_NS / 1e9 + 1
    os.set_blocking(reader, False)
    while any(not request.done for request in requests):
        try:
            os.read(reader, 1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
        disk.collect()
    assert [disk.data(request) for request in requests] == [content[512 * i :][:512] for i in range(20)]
    disk.close()
    for one in (reader, writer, fd):
        os.close(one)


def test_a_hold_of_a_disk_that_does_not_run_is_over_at_once(image: Path, engine: int) -> None:
    fd = os.open(image, os.O_RDWR)
    disk = Disk(fd, 512, engine=engine)
    assert lib.corral_blk_hold(disk.blk) == 0
    disk.start()
    assert lib.corral_blk_hold(disk.blk) == 0
    assert lib.corral_blk_hold(disk.blk) == 0
    disk.stop()
    disk.start()
    disk.read(0, 512)
    disk.close()
    os.close(fd)


def test_a_sync_that_was_lost_stays_so(open_disk: OpenDisk) -> None:
    disk = open_disk(fault_every=2, fault_errno=errno.EIO)
    disk.write(0, bytes(512))  # the first call
    assert disk.do(FLUSH) == IOERR  # the second
    disk.move(fault_every=0)
    assert disk.do(IN, 0, room=512) == OK
    assert disk.do(FLUSH) == IOERR


def test_an_image_that_was_found_short_stays_so(open_disk: OpenDisk, image: Path) -> None:
    disk = open_disk()
    size = image.stat().st_size
    os.truncate(image, 6144)
    assert disk.do(IN, 13, room=512) == IOERR
    os.truncate(image, size)
    disk.move()
    assert disk.do(IN, 13, room=512) == IOERR


def test_a_driver_that_wanted_writes_through_has_them_still(open_disk: OpenDisk) -> None:
    recorder = blk_record.Recorder()
    disk = open_disk(record_fd=recorder.append)
    lib.corral_blk_set_writeback(disk.blk, False)
    disk.move()
    recorder.take()
    disk.write(0, bytes(512))
    assert {record.flags for record in recorder.take() if record.op == 1} == {os.RWF_DSYNC}
    disk.stop()
    recorder.close()


@pytest.mark.parametrize("field", ["write_through", "sync_lost", "shrunk"])
def test_a_state_that_no_disk_has(open_disk: OpenDisk, field: str) -> None:
    disk = open_disk()
    disk.stop()
    assert disk.try_start(saved=ffi.new("struct corral_blk_saved *", {field: 2})) == -errno.EINVAL
    disk.start()
    disk.read(0, 512)
