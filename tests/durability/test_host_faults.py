"""A host that fails: the guest gets an error or the right data; it is not left waiting, and nothing dies of it."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.config import DiskConfig
from tests.durability import linux
from tests.durability.effort import EFFORT, dice
from tests.durability.mistrusting import Driver, fresh
from tests.support.virtio_driver import DEFAULT_FEATURES, F_FLUSH, IOERR, OK, SECTOR, Disk
from tests.unit.blk.conftest import ENGINES

Tell = Callable[[str], None]
OpenDriver = Callable[..., Driver]
SECTORS = 2048
REQUESTS = 3000 * EFFORT
RAW_STEPS = 300 * EFFORT
MODES: dict[str, dict[str, Any]] = {
    "writeback": {},
    "direct": {"direct": True},
    "writethrough": {"write_through": True, "features": DEFAULT_FEATURES & ~(1 << F_FLUSH)},
    "snapshot": {},
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(fresh(SECTORS))
    return path


@pytest.fixture
def open_driver(image: Path, engine: str, mode: str) -> Iterator[OpenDriver]:
    """Makes a driver of a disk on the image."""
    fds: list[int] = []
    disks: list[Disk] = []

    def make(**options: Any) -> Driver:
        flags = {"snapshot": os.O_RDONLY, "direct": os.O_RDWR | os.O_DIRECT}.get(mode, os.O_RDWR)
        try:
            fds.append(os.open(image, flags))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            pytest.skip("no O_DIRECT on this file system")
        if mode == "snapshot":
            fds.append(os.open(image.parent, os.O_TMPFILE | os.O_RDWR))
            options["overlay_fd"] = fds[-1]
        disks.append(Disk(fds[0], SECTORS * SECTOR, engine=ENGINES[engine], **MODES[mode] | options))
        disks[0].start()
        return Driver(disks[0], SECTORS, dice(engine, mode))

    yield make
    for disk in disks:
        disk.close()
    for fd in fds:
        os.close(fd)


def test_a_tenth_of_all_calls_fails(open_driver: OpenDriver, image: Path, mode: str, tell: Tell) -> None:
    driver = open_driver(fault_every=10, fault_seed=dice("faults").getrandbits(63) | 1)
    driver.run(REQUESTS)
    driver.check_all()
    assert driver.answers[OK]
    assert driver.answers[IOERR]
    driver.disk.stop()
    if mode == "snapshot":
        assert image.read_bytes() == fresh(SECTORS)
    else:
        driver.check(range(SECTORS), image.read_bytes())
    tell(f"{REQUESTS} requests, {driver.answers[IOERR]} answered with an error")


def test_an_image_that_is_truncated(open_driver: OpenDriver, image: Path) -> None:
    driver, random = open_driver(), dice("truncate")
    driver.run(REQUESTS // 8)
    assert not driver.answers[IOERR]
    os.truncate(image, random.randrange(SECTORS // 2 * SECTOR))
    driver.run(REQUESTS // 8)
    assert driver.answers[IOERR]
    os.truncate(image, SECTORS * SECTOR)
    driver.run(REQUESTS // 8)


def test_an_image_that_is_truncated_under_requests(open_driver: OpenDriver, image: Path) -> None:
    driver, random = open_driver(), dice("race")
    timer = threading.Timer(random.uniform(0, 0.02), os.truncate, (image, random.randrange(SECTORS // 2 * SECTOR)))
    timer.start()
    driver.run(REQUESTS // 4)
    timer.join()
    driver.run(REQUESTS // 8)
    assert driver.answers[IOERR]


def test_an_image_that_is_unlinked(open_driver: OpenDriver, image: Path) -> None:
    driver = open_driver()
    driver.run(REQUESTS // 8)
    image.unlink()
    driver.run(REQUESTS // 8)
    driver.check_all()
    assert not driver.answers[IOERR]


# --- under Linux ---


def counts(said: str) -> tuple[int, int]:
    """Of guest.c's raw workload: requests that failed, and reads that were wrong."""
    found = re.search(r"(\d+) steps, (\d+) failed, (\d+) wrong", said)
    assert found, said
    assert int(found[1]) == RAW_STEPS
    return int(found[2]), int(found[3])


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(2 << 20))
    return path


def test_linux_sees_errors_and_lives_on(disk: Path, tell: Tell) -> None:
    with linux.seams(fault_every=10, fault_seed=dice("linux").getrandbits(63) | 1):
        failed, wrong = counts(linux.run(DiskConfig(str(disk)), "raw", RAW_STEPS))
    assert failed
    assert not wrong
    tell(f"{RAW_STEPS} reads and writes, {failed} failed")


def test_a_file_system_that_meets_errors(tmp_path: Path) -> None:
    """Whatever it makes of them, Linux is there at the end."""
    image = linux.file_system(tmp_path / "image")
    with linux.seams(fault_every=50, fault_seed=dice("ext4").getrandbits(63) | 1):
        linux.run(DiskConfig(str(image)), "files", 10)


def test_an_image_that_is_unlinked_and_then_truncated_under_linux(disk: Path) -> None:
    fd = os.open(disk, os.O_RDWR)

    def on_step(step: int) -> None:
        if step == RAW_STEPS // 3:
            disk.unlink()
        if step == 2 * RAW_STEPS // 3:
            os.ftruncate(fd, 1 << 20)

    failed, wrong = counts(linux.run(DiskConfig(str(disk)), "raw", RAW_STEPS, on_step))
    os.close(fd)
    assert not wrong
    # All but those before: an image without a name is as good as one with.
    assert RAW_STEPS // 3 - 2 <= failed <= RAW_STEPS // 3 + RAW_STEPS // 8
