"""A stop is over in half a second, whatever the guest has asked for and however the host answers."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.native import lib
from tests.support import blk_record
from tests.support.full_pipe import full_pipe
from tests.support.fuse_file import FuseFile
from tests.support.virtio_driver import DISCARD, IN, IOERR, OK, OUT, WRITE_ZEROES, Disk, ranges

OpenDisk = Callable[..., Disk]
LARGE = 1 << 40  # of a sparse image
SOON = lib.CORRAL_WORKER_STOP_NS / 1e9 + 0.3
SEGMENT, SEGMENTS = 8 << 20, 60
MEMORY = 16 << 20


@pytest.fixture
def large(engine: int, tmp_path: Path) -> Iterator[OpenDisk]:
    disks: list[Disk] = []
    fds = [os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)]
    os.ftruncate(fds[0], LARGE)

    def make(layered: bool = False, **options: int) -> Disk:
        if layered:
            fds.append(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
            options["overlay_fd"] = fds[-1]
        disks.append(Disk(fds[0], LARGE, engine=engine, memory=MEMORY, **options))
        disks[-1].start()
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()
    for fd in fds:
        os.close(fd)


def ask_for_much(disk: Disk, kind: int, requests: int, segments: int = SEGMENTS, segment: int = SEGMENT) -> None:
    """Requests of `segments` times the same memory, one after the other on the disk."""
    size, header = segments * segment, 0xF00000
    for i in range(requests):
        disk.memory.write(header + 16 * i, struct.pack("<IIQ", kind, 0, i * size // 512))
        data = [(1 << 20, segment)] * segments
        readable = [(header + 16 * i, 16), *(data if kind == OUT else [])]
        disk.queues[0].add(readable, [*(data if kind == IN else []), (0xE00000 + i, 1)], indirect=True)
    disk.queues[0].show(True)


def stops_soon(disk: Disk) -> int:
    started = time.monotonic()
    result = int(lib.corral_blk_stop(disk.blk))
    assert time.monotonic() - started < SOON
    return result


@pytest.mark.parametrize("layered", [False, True], ids=["plain", "layered"])
@pytest.mark.parametrize("kind", [IN, OUT], ids=["reads", "writes"])
def test_while_requests_of_half_a_gibibyte_are_queued(large: OpenDisk, kind: int, layered: bool) -> None:
    disk = large(layered)
    ask_for_much(disk, kind, 128)
    time.sleep(0.05)
    assert stops_soon(disk) == 0
    disk.start()
    assert disk.read(0, 512) == bytes(512)


@pytest.mark.parametrize("layered", [False, True], ids=["plain", "layered"])
@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
def test_while_terabytes_are_to_be_zeroed(large: OpenDisk, kind: int, layered: bool) -> None:
    """32 ranges of 2 GiB each, in 100 requests."""
    disk = large(layered)
    most = lib.CORRAL_BLK_RANGE_SECTORS_MAX
    for i in range(100):
        disk.add(kind, data=ranges(*((most * (i + j) % (LARGE // 512), most, 0) for j in range(16))), indirect=True)
    disk.queues[0].show(True)
    time.sleep(0.02)
    assert stops_soon(disk) == 0


@pytest.mark.parametrize("kind", [IN, DISCARD, WRITE_ZEROES])
def test_calls_and_what_is_in_flight_are_bounded(large: OpenDisk, kind: int) -> None:
    recorder = blk_record.Recorder()
    disk = large(record_fd=recorder.append)
    if kind == IN:
        ask_for_much(disk, IN, 64, segments=3)
    else:
        for i in range(8):
            disk.add(kind, data=ranges((i << 18, 1 << 18, 0)), indirect=True)
        disk.queues[0].show(True)
    requests = 64 if kind == IN else 8
    while disk.queues[0].used_idx < requests:
        time.sleep(0.01)
    disk.stop()
    longest = lib.CORRAL_BLK_CALL_MAX if kind == IN else lib.CORRAL_BLK_ALLOCATE_MAX
    flying: dict[int, int] = {}
    for record in recorder.take():
        if record.op == blk_record.ANSWER:
            assert record.result == OK
        elif record.done:
            del flying[record.request]
        else:
            flying[record.request] = record.length
            assert record.length <= longest
            assert sum(flying.values()) < lib.CORRAL_BLK_IN_FLIGHT_MAX + 4 * longest
    assert not flying
    recorder.close()


def test_while_a_thread_of_the_disk_is_stuck(large: OpenDisk) -> None:
    """In a call that the host does not come back from. What is behind it gets an error once it does."""
    reader, writer = full_pipe()
    disk = large(record_fd=writer)
    requests = [disk.add(IN, i, room=512) for i in range(20)]
    disk.queues[0].show(True)
    time.sleep(0.05)
    assert stops_soon(disk) == -errno.ETIMEDOUT
    assert stops_soon(disk) == -errno.ETIMEDOUT
    assert disk.try_start() == -errno.EBUSY
    assert lib.corral_blk_destroy(disk.blk) == -errno.ETIMEDOUT
    os.set_blocking(reader, False)
    end = time.monotonic() + 20
    while stops_soon(disk):
        assert time.monotonic() < end
        try:
            os.read(reader, 1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
    disk.collect()
    found = {disk.status(request) for request in requests if request.done}
    assert IOERR in found
    assert found <= {OK, IOERR}
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
@pytest.mark.parametrize("kind", [IN, OUT], ids=["reads", "writes"])
def test_while_the_backend_never_answers(engine: int, tmp_path: Path, kind: int, direct: bool) -> None:
    with FuseFile(tmp_path / "mount", 1 << 20) as file:
        fd = os.open(file.path, os.O_RDWR | (os.O_DIRECT if direct else 0))
        disk = Disk(fd, 1 << 20, engine=engine, direct=direct)
        disk.start()
        assert disk.read(0, 4096, alignment=4096) == bytes(4096)
        file.silent.set()
        for i in range(30):
            data, room = (b"", 4096) if kind == IN else (b"x" * 4096, 0)
            disk.add(kind, 8 * i + 512, data, room, alignment=4096)
        disk.queues[0].show(True)
        while not file.asked:
            time.sleep(0.01)
        assert stops_soon(disk) == -errno.ETIMEDOUT
    end = time.monotonic() + 20
    while lib.corral_blk_stop(disk.blk):
        assert time.monotonic() < end
    for request in disk.collect():
        assert disk.status(request) == IOERR
    disk.close()
    os.close(fd)
