"""What reaches the backend, and in which order: a request that promises stable storage has asked for it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.native import lib
from tests.support.blk_record import ALLOCATE, ANSWER, OVERLAY, SYNC, WRITE, Record, Recorder, made
from tests.support.virtio_driver import (
    DEFAULT_FEATURES,
    DISCARD,
    F_FLUSH,
    FLUSH,
    IOERR,
    OK,
    OUT,
    WRITE_ZEROES,
    Disk,
    ranges,
)

OpenDisk = Callable[..., Disk]


def calls(records: list[Record]) -> list[int]:
    return [record.op for record in made(records)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def test_a_flush_is_a_sync_after_the_writes(open_disk: OpenDisk, recorder: Recorder) -> None:
    disk = open_disk(record_fd=recorder.append)
    for i in range(8):
        disk.add(OUT, i, bytes([i]) * 512)
    disk.wait()
    disk.flush()
    records = recorder.take()
    assert calls(records) == [WRITE] * 8 + [SYNC]
    assert {record.data[0]: record.offset for record in records if record.data} == {i: 512 * i for i in range(8)}
    assert [(record.op, record.done) for record in records[-3:]] == [(SYNC, 0), (SYNC, 1), (ANSWER, 1)]
    assert [record.result for record in records[-2:]] == [0, OK]
    assert not any(record.flags for record in made(records))  # write-back is not slower than it needs to be


@pytest.mark.parametrize("mode", ["config", "features", "writeback"])
@pytest.mark.parametrize("bounce", [False, True])
def test_write_through_is_stable_before_it_completes(
    open_disk: OpenDisk, recorder: Recorder, mode: str, bounce: bool
) -> None:
    features = DEFAULT_FEATURES & ~(1 << F_FLUSH) if mode == "features" else DEFAULT_FEATURES
    try:
        disk = open_disk(
            record_fd=recorder.append,
            write_through=mode == "config",
            features=features,
            direct=bounce,
            flags=os.O_RDWR | (os.O_DIRECT if bounce else 0),
            fault_every=3,  # and so is the rest of a short write
        )
    except OSError:
        pytest.skip("no O_DIRECT on this file system")
    if mode == "writeback":
        assert lib.corral_blk_set_writeback(disk.blk, False) == 0
    for i in range(5):
        disk.write(i, bytes(4096), alignment=1 if bounce else 512, sizes=[100])
    records = recorder.take()
    assert len(calls(records)) > 5
    assert set(calls(records)) == {WRITE}
    assert {record.flags for record in made(records)} == {os.RWF_DSYNC}
    for kind in (DISCARD, WRITE_ZEROES):
        before = len(recorder.take())
        assert disk.do(kind, data=ranges((0, 8, 0), (16, 8, 0))) == OK
        assert calls(recorder.take()[before:]) == [ALLOCATE, ALLOCATE, SYNC]


def test_writeback_again_is_not_write_through(open_disk: OpenDisk, recorder: Recorder) -> None:
    disk = open_disk(record_fd=recorder.append)
    lib.corral_blk_set_writeback(disk.blk, False)
    disk.write(0, bytes(512))
    lib.corral_blk_set_writeback(disk.blk, True)
    disk.write(0, bytes(512))
    assert [record.flags for record in made(recorder.take())] == [os.RWF_DSYNC, 0]


def test_a_write_through_error_is_not_forgotten(open_disk: OpenDisk) -> None:
    """It may have told of earlier writes, and the kernel tells once."""
    disk = open_disk(fault_every=2, fault_errno=errno.EIO)
    disk.write(0, bytes(512))
    lib.corral_blk_set_writeback(disk.blk, False)
    assert disk.do(OUT, 0, bytes(512)) == IOERR
    assert disk.do(FLUSH) == IOERR


def test_a_layer_that_is_thrown_away_is_not_synced(open_disk: OpenDisk, recorder: Recorder, tmp_path: Path) -> None:
    layer = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    disk = open_disk(record_fd=recorder.append, overlay_fd=layer, write_through=True)
    disk.write(0, bytes(4096))
    disk.flush()
    assert calls(recorder.take()) == [WRITE]
    assert all(record.file == OVERLAY for record in made(recorder.take()))
    disk.stop()
    os.close(layer)
