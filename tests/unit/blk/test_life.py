"""Starts, stops, and ends in any state; what is left behind; limits; images that change under a disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.memory import GuestMemory
from corral.native import ffi, lib
from tests.support.virtio_driver import DISCARD, FLUSH, IN, IOERR, OK, OUT, WRITE_ZEROES, Disk, ranges
from tests.unit.blk.conftest import SIZE

OpenDisk = Callable[..., Disk]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def threads_come_down_to(count: int) -> bool:
    for _ in range(500):  # a kernel thread of io_uring takes its time
        if threads() <= count:
            return True
        time.sleep(0.01)
    return False


def test_nothing_is_left_behind(image: Path, engine: int) -> None:
    fd = os.open(image, os.O_RDWR)
    files, before = open_files(), threads()
    for turn in range(30):
        with Disk(fd, SIZE, engine=engine, queues=1 + turn % 3) as disk:
            disk.read(0, 4096)
            disk.flush()
            if turn % 2:
                disk.stop()
                disk.start()
                disk.add(IN, 0, room=65536)
                disk.queues[0].show()  # and does not wait for it
    assert open_files() == files
    assert threads_come_down_to(before)
    os.close(fd)


def test_a_stop_answers_what_was_taken_with_its_data_or_an_error(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queue_size=1024)
    for turn in range(20):
        requests = [disk.add(IN, i, room=4096, indirect=True) for i in range(200)]
        disk.queues[0].show(True)
        if turn % 2:
            time.sleep(0.0005)
        disk.stop()
        used = disk.queues[0].used_idx
        snapshot = disk.memory.read(0, disk.arena_at)
        time.sleep(0.001)
        assert disk.memory.read(0, disk.arena_at) == snapshot
        disk.collect()
        done = [i for i, request in enumerate(requests) if request.done]
        assert len(done) == used
        for i in done:
            assert disk.status(requests[i]) in (OK, IOERR)
            if disk.status(requests[i]) == OK:
                assert disk.data(requests[i]) == content[i * 512 : i * 512 + 4096]
        disk.start()


def test_stops_and_starts_in_any_state(disk: Disk) -> None:
    assert disk.try_start() == -errno.EBUSY
    disk.read(0, 512)
    disk.stop()
    disk.stop()
    disk.start()
    disk.read(0, 512)


def test_a_disk_that_was_never_started(image: Path, engine: int) -> None:
    fd = os.open(image, os.O_RDWR)
    disk = Disk(fd, SIZE, engine=engine)
    disk.stop()
    disk.close()
    lib.corral_blk_destroy(ffi.NULL)
    os.close(fd)


def test_only_queues_that_are_ready_are_served(open_disk: OpenDisk) -> None:
    disk = open_disk(queues=2)
    disk.stop()
    assert disk.try_start([disk.queues[0].setup(ready=False), disk.queues[1].setup()]) == 0
    for queue in disk.queues:
        queue.reset()
    disk.flying.clear()
    disk.add(IN, 0, room=512, queue=0)
    disk.queues[0].show(True)
    disk.read(0, 512, queue=1)
    assert disk.queues[0].used_idx == 0


def test_threads_have_the_disk_s_name(open_disk: OpenDisk) -> None:
    disk = open_disk(name=b"blk7")
    disk.read(0, 512)  # they have begun, then
    names = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
    assert "blk7\n" in names
    disk.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"size": 513},
        {"block_size": 0},
        {"block_size": 256},
        {"block_size": 8192},
        {"block_size": 1000},
        {"n_queues": 0},
        {"n_queues": 65},
        {"engine": 9},
        {"overlay_fd": 0, "direct": True},
    ],
)
def test_disks_that_cannot_be(change: dict[str, Any]) -> None:
    memory = GuestMemory(1 << 20)
    fields = {"fd": -1, "overlay_fd": -1, "size": 512, "block_size": 512, "n_queues": 1, **change}
    irq = ffi.new("struct corral_virtio_irq *")
    config = ffi.new("struct corral_blk_config *", {"engine": lib.CORRAL_BLK_THREADS, **fields})
    assert not lib.corral_blk_create(config, memory.native, irq)
    assert ffi.errno == errno.EINVAL
    memory.close()


# --- limits ---


@pytest.mark.parametrize(
    ("limits", "requests", "length"),
    [({"ops_per_second": 100}, 40, 512), ({"bytes_per_second": 1 << 20}, 10, 40960)],
    ids=["operations", "bytes"],
)
def test_limits_hold(open_disk: OpenDisk, limits: dict[str, int], requests: int, length: int) -> None:
    """400 ms worth of requests, of which 100 ms may be saved up."""
    disk = open_disk(**limits)
    started = time.monotonic()
    for i in range(requests):
        disk.add(IN, i, room=length)
    disk.wait()
    took = time.monotonic() - started
    assert 0.25 < took < 2


def test_a_disk_that_is_held_back_stops_at_once(open_disk: OpenDisk) -> None:
    disk = open_disk(bytes_per_second=1)
    disk.add(IN, 0, room=4096)
    disk.add(IN, 0, room=4096)
    disk.queues[0].show(True)
    time.sleep(0.02)
    started = time.monotonic()
    disk.stop()
    assert time.monotonic() - started < 2


# --- images that change, backends that fail ---


@pytest.mark.parametrize("sector", [2, 20, SIZE // 512 - 1], ids=["before", "behind", "last"])
@pytest.mark.parametrize("direct", [False, True])
def test_a_truncated_image_is_an_error_and_not_zeros(
    open_disk: OpenDisk, image: Path, sector: int, direct: bool
) -> None:
    """Also when a write makes it longer again, up to the whole length: it must not seem to be well."""
    try:
        disk = open_disk(direct=direct, flags=os.O_RDWR | (os.O_DIRECT if direct else 0))
    except OSError:
        pytest.skip("no O_DIRECT on this file system")
    os.truncate(image, 6144)
    assert disk.do(OUT, sector, b"z" * 512) == IOERR
    assert disk.do(IN, 13, room=512) == IOERR
    assert [disk.do(kind, data=ranges((16, 1, 0))) for kind in (DISCARD, WRITE_ZEROES)] == [IOERR, IOERR]
    os.truncate(image, SIZE)
    assert disk.do(IN, 13, room=512) == IOERR
    assert disk.do(FLUSH) == IOERR


def test_an_image_that_grows_is_as_before(disk: Disk, image: Path, content: bytes) -> None:
    os.truncate(image, 2 * SIZE)
    disk.write(0, b"z" * 512)
    disk.flush()
    assert disk.read(0, 1024) == b"z" * 512 + content[512:1024]


def test_an_unlinked_image_goes_on(disk: Disk, image: Path, content: bytes) -> None:
    image.unlink()
    disk.write(0, b"y" * 512)
    disk.flush()
    assert disk.read(0, 1024) == b"y" * 512 + content[512:1024]


def test_a_device_that_is_full(engine: int) -> None:
    """/dev/full takes no writes: ENOSPC."""
    fd = os.open("/dev/full", os.O_RDWR)
    with Disk(fd, SIZE, engine=engine) as disk:
        assert disk.do(OUT, 0, bytes(4096)) == IOERR
        assert disk.stats().errors == 1
    os.close(fd)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_after_a_sync_that_failed_no_flush_is_true(open_disk: OpenDisk, number: int) -> None:
    """The kernel reports a lost write-back once; what was lost stays lost."""
    disk = open_disk(fault_every=2, fault_errno=number)
    disk.write(0, bytes(512))  # the first call
    assert disk.do(FLUSH) == IOERR  # the second
    for _ in range(3):
        assert disk.do(FLUSH) == IOERR
    disk.stop()
    disk.start()
    assert disk.do(FLUSH) == IOERR


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("kind", [IN, OUT, FLUSH, WRITE_ZEROES])
def test_a_call_that_fails_is_no_success(
    open_disk: OpenDisk, image: Path, content: bytes, kind: int, number: int
) -> None:
    disk = open_disk(fault_every=1, fault_errno=number, write_through=True)
    data = {OUT: bytes(512), WRITE_ZEROES: ranges((0, 8, 0))}.get(kind, b"")
    assert disk.do(kind, 0, data, 512 if kind == IN else 0) == IOERR
    assert image.read_bytes() == content


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_a_backend_that_never_comes_to_it_is_an_error_in_the_end(open_disk: OpenDisk, number: int) -> None:
    disk = open_disk(fault_every=1, fault_errno=number)
    assert disk.do(IN, 0, room=512) == IOERR
    assert disk.do(FLUSH) == IOERR


def test_where_no_range_can_be_zeroed_zeros_are_written(engine: int, content: bytes) -> None:
    """tmpfs punches holes and cannot do the other thing: an allocated range of zeros."""
    fd = os.memfd_create("disk")
    os.write(fd, content)
    with Disk(fd, SIZE, engine=engine, write_through=True) as disk:
        assert disk.do(WRITE_ZEROES, data=ranges((1, 300, 0), (400, 1, 1))) == OK
        expected = content[:512] + bytes(300 * 512) + content[301 * 512 : 400 * 512] + bytes(512)
        assert disk.read(0, SIZE) == expected + content[401 * 512 :]
    os.close(fd)


def test_zeros_that_cannot_be_written_either(open_disk: OpenDisk, image: Path, content: bytes) -> None:
    disk = open_disk(fault_every=1, fault_errno=errno.EOPNOTSUPP)
    for unmap in (0, 1):
        assert disk.do(WRITE_ZEROES, data=ranges((0, 8, unmap))) == IOERR
    assert image.read_bytes() == content


def test_the_engine_that_does_nothing_answers_everything(image: Path) -> None:
    fd = os.open(image, os.O_RDWR)
    with Disk(fd, SIZE, engine=lib.CORRAL_BLK_NULL, queues=2) as disk:
        requests = [disk.add(kind, 0, queue=i % 2) for i, kind in enumerate([FLUSH, IN] * 10)]
        disk.wait()
        assert {disk.status(request) for request in requests} == {OK}
        assert disk.do(99) == 2
    os.close(fd)
