"""What a power cut leaves, at every point of a recorded run: nothing that was promised is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.durability.effort import EFFORT, dice
from tests.durability.numbered import Checker, Driver
from tests.durability.replay import cuts
from tests.support.blk_record import ANSWER, SYNC, WRITE, Record, Recorder
from tests.support.virtio_driver import DEFAULT_FEATURES, F_FLUSH, FLUSH, SECTOR, Disk
from tests.unit.blk.conftest import ENGINES

Tell = Callable[[str], None]
SECTORS = 256
REQUESTS = 200
WRITE_THROUGH = ("writethrough", "no-flush")
SUBSETS = 8 * EFFORT  # at each cut
LESS_FEATURES = DEFAULT_FEATURES & ~(1 << F_FLUSH)
MODES: dict[str, dict[str, Any]] = {
    "writeback": {},
    "direct": {"direct": True},
    "writethrough": {"write_through": True, "features": LESS_FEATURES},
    "no-flush": {"features": LESS_FEATURES},  # a driver that knows none
    "two-queues": {"queues": 2},
}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def run(folder: Path, recorder: Recorder, engine: str, mode: str, **options: Any) -> tuple[Driver, list[Record]]:
    """A driver's run on an image of zeros, with what it came to; and the record of it."""
    options = MODES[mode] | options
    path = folder / "image"
    path.write_bytes(bytes(SECTORS * SECTOR))
    try:
        fd = os.open(path, os.O_RDWR | (os.O_DIRECT if options.get("direct") else 0))
    except OSError:
        pytest.skip("no O_DIRECT on this file system")
    disk = Disk(fd, SECTORS * SECTOR, engine=ENGINES[engine], record_fd=recorder.append, **options)
    driver = Driver(disk, SECTORS, dice("numbered", engine, mode), write_through=mode in WRITE_THROUGH)
    with disk:
        driver.run(REQUESTS)
    os.close(fd)
    return driver, recorder.take()


def power_cuts(driver: Driver, records: list[Record]) -> tuple[int, list[str]]:
    """How many images were looked at, and what was lost in the first one that lost something."""
    checker = Checker(driver, driver.promises(records))
    random, images = dice("cuts"), 0
    for cut in cuts(records, bytes(SECTORS * SECTOR)):
        checker.advance(cut.at)
        for image in cut.images(random, SUBSETS):
            images += 1
            losses = [f"cut before {cut.at}: {loss}" for loss in checker.losses(image)]
            if losses:
                return images, losses
    return images, []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_promised_is_lost(tmp_path: Path, recorder: Recorder, engine: str, mode: str, tell: Tell) -> None:
    driver, records = run(tmp_path, recorder, engine, mode)
    images, losses = power_cuts(driver, records)
    assert not losses
    promised = len(driver.promises(records))
    assert promised > 10
    tell(f"{len(records) + 1} cuts, {images} images, {promised} promises")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_flush_that_does_nothing_is_found_out(tmp_path: Path, recorder: Recorder, engine: str) -> None:
    driver, records = run(tmp_path, recorder, engine, "writeback", false_flush=True)
    assert any(record.op == ANSWER and record.flags == FLUSH for record in records)
    assert not any(record.op == SYNC for record in records)
    assert power_cuts(driver, records)[1]


def early_answers(records: list[Record]) -> list[Record]:
    """The same run, but each FLUSH is answered before its sync has ended."""
    records = list(records)
    ended: dict[int, int] = {}
    for index, record in enumerate(records):
        if record.op == SYNC and record.done:
            ended[record.request] = index
        elif record.op == ANSWER and record.flags == FLUSH:
            sync = ended.pop(record.request)
            records[sync], records[index] = record, records[sync]
    return records


def test_an_answer_before_its_sync_has_ended_is_found_out(tmp_path: Path, recorder: Recorder) -> None:
    driver, records = run(tmp_path, recorder, "threads", "writeback")
    assert power_cuts(driver, early_answers(records))[1]


def test_a_write_through_that_is_none_is_found_out(tmp_path: Path, recorder: Recorder) -> None:
    driver, records = run(tmp_path, recorder, "threads", "writethrough")
    lame = [replace(record, flags=0) if record.op == WRITE else record for record in records]
    assert power_cuts(driver, lame)[1]


def test_a_sync_that_failed_makes_nothing_stable(tmp_path: Path, recorder: Recorder) -> None:
    """That is, the checker does not believe it: the device answers such a FLUSH with an error."""
    driver, records = run(tmp_path, recorder, "threads", "writeback")
    failing = [replace(record, result=-5) if record.op == SYNC and record.done else record for record in records]
    assert power_cuts(driver, failing)[1]


def test_the_last_image_is_the_file(tmp_path: Path, recorder: Recorder) -> None:
    """What is replayed is what happened."""
    _, records = run(tmp_path, recorder, "threads", "writeback")
    *_, last = cuts(records, bytes(SECTORS * SECTOR))
    assert last.image(dict.fromkeys(last.volatile), dice()) == (tmp_path / "image").read_bytes()
