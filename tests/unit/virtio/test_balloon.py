"""virtio-balloon (csrc/virtio/balloon.h): what a driver reports goes back to the host, and nothing else does."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Iterator

import pytest

from corral.core.irq import VirtioInterrupt
from corral.devices.virtio.balloon import Balloon
from corral.devices.virtio.device import Place
from corral.devices.virtio.device import Queue as Registers
from corral.memory import GuestMemory
from tests.support.virtio_driver import WRITE, Queue, align, forbid

RAM, PAGE = 4 << 20, 4096
PLAIN = 1 << 28 | 1 << 29 | 1 << 32
INFLATE, DEFLATE, REPORT = range(3)
AREA = 0x200000
PATIENCE = 20.0


class Driver:
    def __init__(self) -> None:
        self.memory = GuestMemory(RAM)
        forbid(self.memory.host_address + RAM, PAGE)
        self.interrupt = VirtioInterrupt(None, 5)
        self.device = Balloon(Place(self.memory, self.interrupt))
        self.queues, at = [], 0x1000
        for _ in range(3):
            self.queues.append(Queue(self.memory, at, 16))
            at = align(self.queues[-1].end, PAGE)

    def registers(self) -> list[Registers]:
        return [Registers(16, queue.desc, queue.avail, queue.used, True) for queue in self.queues]

    def start(self) -> None:
        for queue in self.queues:
            queue.reset()
        self.device.start(PLAIN | 1 << 5, self.registers(), [queue.kick_fd for queue in self.queues])

    def fill(self) -> None:
        self.memory.write(AREA, b"x" * (16 * PAGE))

    def kept(self) -> list[int]:
        """The pages of the area that still have what was written."""
        return [page for page in range(16) if self.memory.read(AREA + page * PAGE, PAGE) == b"x" * PAGE]

    def done(self, queue: int) -> None:
        self.queues[queue].show(kick=True)
        assert self.until(lambda: bool(self.queues[queue].take_used()))

    def report(self, *ranges: tuple[int, int]) -> None:
        self.queues[REPORT].add([], ranges)
        self.done(REPORT)

    def numbers(self, queue: int, *pages: int, cut: int = 0) -> None:
        data = struct.pack(f"<{len(pages)}I", *pages)
        self.memory.write(0x100000, data)
        parts = [(0x100000, cut), (0x100000 + cut, len(data) - cut)] if cut else [(0x100000, len(data))]
        self.queues[queue].add(parts, [])
        self.done(queue)

    def until(self, condition: object) -> bool:
        assert callable(condition)
        end = time.monotonic() + PATIENCE
        while not condition() and time.monotonic() < end:
            select.select([self.interrupt.fd.value], [], [], 0.005)
        return bool(condition()) or time.monotonic() < end

    def close(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.device.stop():
            assert time.monotonic() < end
        self.device.close()
        for queue in self.queues:
            queue.close()
        self.interrupt.close()
        self.memory.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    driver.start()
    driver.fill()
    yield driver
    driver.close()


def test_pages_that_are_reported_go_back_and_no_others(driver: Driver) -> None:
    driver.report((AREA + 2 * PAGE, 3 * PAGE), (AREA + 8 * PAGE, PAGE))
    assert driver.kept() == [0, 1, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
    assert driver.device.counters()["reported bytes"] == 4 * PAGE


@pytest.mark.parametrize("report", [(AREA + 1, PAGE), (AREA, PAGE - 1), (AREA + 2048, PAGE), (AREA, 1)])
def test_what_is_no_whole_page_stays(driver: Driver, report: tuple[int, int]) -> None:
    driver.report(report)
    assert len(driver.kept()) == 16
    assert driver.device.counters()["refused"] == 1


@pytest.mark.parametrize("cut", [0, 1, 4, 5])
def test_pages_of_the_balloon(driver: Driver, cut: int) -> None:
    first = AREA // PAGE
    driver.numbers(INFLATE, first + 1, first + 3, cut=cut)
    assert driver.kept() == [0, 2, *range(4, 16)]
    driver.numbers(DEFLATE, first + 1)
    counted = driver.device.counters()
    assert (counted["inflated pages"], counted["deflated pages"]) == (2, 1)


def test_pages_that_are_none(driver: Driver) -> None:
    driver.numbers(INFLATE, RAM // PAGE, 0xFFFFFFFF, 0x100000)
    assert len(driver.kept()) == 16
    assert driver.device.counters()["refused"] == 3


def test_memory_behind_the_guests_breaks_the_device(driver: Driver) -> None:
    driver.queues[REPORT].write_descriptor(driver.queues[REPORT].desc, 0, RAM - PAGE, 2 * PAGE, WRITE, 0)
    driver.queues[REPORT].put(0)
    driver.queues[REPORT].show(kick=True)
    assert driver.until(lambda: driver.device.broken)
    assert driver.device.broken


def test_what_the_driver_says_of_its_balloon_goes_on(driver: Driver) -> None:
    driver.device.write_config(4, struct.pack("<I", 77))
    driver.device.write_config(0, struct.pack("<I", 99))
    driver.device.write_config(6, b"\xff")
    assert struct.unpack_from("<II", driver.device.config) == (0, 77)
    assert driver.device.pause()
    state = driver.device.save()
    driver.device.close()
    driver.device = Balloon(Place(driver.memory, driver.interrupt))
    driver.device.resume(PLAIN | 1 << 5, driver.registers(), [queue.kick_fd for queue in driver.queues], state)
    assert struct.unpack_from("<II", driver.device.config) == (0, 77)
    driver.report((AREA, PAGE))
    assert driver.kept()[0] == 1
