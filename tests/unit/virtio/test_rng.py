"""virtio-rng: what a driver's buffers get, and what a hostile driver can do (virtio 1.2, section 5.4)."""

from __future__ import annotations

import errno
import os
import random
import select
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.config import RngConfig
from corral.core.irq import VirtioInterrupt
from corral.devices.virtio.device import BadQueue, Place
from corral.devices.virtio.device import Queue as Registers
from corral.devices.virtio.rng import Rng
from corral.memory import GuestMemory
from corral.native import lib
from tests.support.virtio_driver import INDIRECT, NEXT, WRITE, Queue, forbid

RAM = 1 << 20
SIZE = 8
BUFFERS = 0x10000
FEATURES = 1 << 28 | 1 << 29  # indirect descriptors, event index
MOST = lib.CORRAL_RNG_MOST
PATIENCE = 20.0


class Driver:
    def __init__(self, bandwidth: int = 0) -> None:
        self.memory = GuestMemory(RAM)
        forbid(self.memory.host_address + RAM, 4096)
        self.interrupt = VirtioInterrupt(None, 5)
        self.device = Rng(RngConfig(bandwidth), Place(self.memory, self.interrupt))
        self.queue = Queue(self.memory, 0x1000, SIZE)

    def registers(self, **changed: int) -> Registers:
        at = {"size": SIZE, "descriptors": self.queue.desc, "driver": self.queue.avail, "device": self.queue.used}
        return Registers(**at | changed, ready=True)

    def start(self, **changed: int) -> None:
        self.queue.reset()
        self.device.start(FEATURES, [self.registers(**changed)], [self.queue.kick_fd])

    def ask(self, *lengths: int, readable: int = 0) -> int:
        """A chain of buffers of these lengths, one after the other. Returns its head."""
        at, segments = BUFFERS, []
        for length in lengths:
            segments.append((at, length))
            at += length
        head = self.queue.add([(at, readable)] if readable else [], segments)
        self.queue.show()
        return head

    def wait(self, head: int) -> int:
        """Bytes that the buffers got."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.queue.want_interrupt()
            for back, written in self.queue.take_used():
                if back == head:
                    return written
            select.select([self.interrupt.fd.value], [], [], 0.2)
            self.interrupt.fd.clear()
        raise TimeoutError("the buffer is not back")

    def stop(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.device.stop():
            assert time.monotonic() < end, "the device does not stop"

    def breaks(self) -> bool:
        """Whether the device tells, in time, that it needs a reset."""
        end = time.monotonic() + PATIENCE
        while not self.device.broken and time.monotonic() < end:
            select.select([self.interrupt.fd.value], [], [], 0.05)
        return self.device.broken and self.interrupt.status & 2 != 0

    def close(self) -> None:
        self.stop()
        self.device.close()
        self.queue.close()
        self.interrupt.close()
        self.memory.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    driver.start()
    yield driver
    driver.close()


def test_a_buffer_is_filled_with_bytes_that_differ_each_time(driver: Driver) -> None:
    seen = set()
    for _ in range(50):
        assert driver.wait(driver.ask(64)) == 64
        seen.add(driver.memory.read(BUFFERS, 64))
    assert len(seen) == 50
    assert driver.device.counters() == {"buffers": 50, "bytes": 3200}


@pytest.mark.parametrize("lengths", [(1,), (1, 2, 3), (100, 1000, 1), (MOST,), (MOST - 1, 1)])
def test_all_segments_are_filled_and_nothing_behind_them(driver: Driver, lengths: tuple[int, ...]) -> None:
    total = sum(lengths)
    driver.memory.write(BUFFERS, bytes(total + 64))
    assert driver.wait(driver.ask(*lengths)) == total
    assert driver.memory.read(BUFFERS + total, 64) == bytes(64)
    if total > 16:
        assert driver.memory.read(BUFFERS + total - 16, 16) != bytes(16)


def test_a_large_buffer_is_filled_in_part(driver: Driver) -> None:
    driver.memory.write(BUFFERS, bytes(MOST + 64))
    assert driver.wait(driver.ask(100, 600_000)) == MOST
    assert driver.memory.read(BUFFERS + MOST, 64) == bytes(64)


def test_a_buffer_to_read_from_is_left_alone(driver: Driver) -> None:
    head = driver.queue.add([(BUFFERS, 64)], [])
    driver.memory.write(BUFFERS, b"x" * 64)
    driver.queue.show()
    assert driver.wait(head) == 0
    assert driver.wait(driver.ask(8, readable=32)) == 8
    assert driver.memory.read(BUFFERS + 8, 56) == b"x" * 56


@settings(max_examples=40)
@given(st.lists(st.one_of(st.lists(st.integers(1, 2000), min_size=1, max_size=4), st.just("move")), max_size=20))
def test_a_device_that_goes_on_answers_as_the_first_would(steps: list[list[int] | str]) -> None:
    """Buffers that were shown before it was saved are filled, once each and in their order."""
    driver = Driver()
    driver.start()
    expected: list[tuple[int, int]] = []
    got: list[tuple[int, int]] = []

    def settle() -> None:
        end = time.monotonic() + PATIENCE
        while len(got) < len(expected) and time.monotonic() < end:
            driver.queue.want_interrupt()
            got.extend(driver.queue.take_used())
            select.select([driver.interrupt.fd.value], [], [], 0.01)
        assert got == expected

    for step in steps:
        if isinstance(step, str):
            assert driver.device.pause()
            state = driver.device.save()
            driver.device.close()
            driver.device = Rng(RngConfig(), Place(driver.memory, driver.interrupt))
            driver.device.resume(FEATURES, [driver.registers()], [driver.queue.kick_fd], state)
            continue
        if len(driver.queue.free) < len(step):
            settle()
        expected.append((driver.ask(*step), min(sum(step), MOST)))
    settle()
    driver.close()


def test_a_state_that_it_has_not(driver: Driver) -> None:
    driver.stop()
    with pytest.raises(ValueError, match="it has none"):
        driver.device.resume(FEATURES, [driver.registers()], [driver.queue.kick_fd], b"x")


@pytest.mark.parametrize(("length", "amount"), [(1024, 1024), (1, lib.CORRAL_RNG_LEAST)])
def test_the_rate_holds_for_small_buffers_too(length: int, amount: int) -> None:
    """A tenth of a second may be saved up."""
    driver = Driver(bandwidth=40 * amount)
    driver.start()
    began = time.monotonic()
    for _ in range(24):
        driver.wait(driver.ask(length))
    took = time.monotonic() - began
    driver.close()
    assert took > 0.45


def test_a_device_that_is_held_back_stops_at_once() -> None:
    driver = Driver(bandwidth=1)
    driver.start()
    driver.wait(driver.ask(1))
    driver.ask(1)
    driver.stop()  # within its patience; the rate would have it wait for minutes
    driver.close()


def test_a_driver_that_resets_again_and_again(driver: Driver) -> None:
    for _ in range(100):
        driver.stop()
        driver.start()
    assert driver.wait(driver.ask(64)) == 64
    assert sum("rng" in name for name in thread_names()) == 1


def thread_names() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            names.append(file.read())
    return names


@pytest.mark.parametrize(
    "changed",
    [{"size": 3}, {"size": 0}, {"descriptors": 1 << 40}, {"device": RAM - 8}, {"driver": 1}, {"descriptors": 8}],
)
def test_queues_that_cannot_be(changed: dict[str, int]) -> None:
    driver = Driver()
    with pytest.raises(BadQueue, match=f"{os.strerror(errno.EINVAL)}|{os.strerror(errno.EFAULT)}"):
        driver.start(**changed)
    driver.start()
    assert driver.wait(driver.ask(16)) == 16
    driver.close()


BAD_CHAINS = {
    "a buffer behind RAM": [(RAM, 64, WRITE, 0)],
    "a buffer over the end of RAM": [(RAM - 63, 64, WRITE, 0)],
    "a buffer that wraps": [(2**64 - 32, 64, WRITE, 0)],
    "an empty buffer": [(BUFFERS, 0, WRITE, 0)],
    "a chain that bites its tail": [(BUFFERS, 64, WRITE | NEXT, 0)],
    "a link out of the table": [(BUFFERS, 64, WRITE | NEXT, SIZE)],
    "readable after writable": [(BUFFERS, 64, WRITE | NEXT, 1), (BUFFERS, 64, 0, 0)],
    "an indirect table that is not RAM": [(RAM, 16, INDIRECT, 0)],
}


@pytest.mark.parametrize("chain", BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_a_chain_that_cannot_be_breaks_the_device_until_its_reset(
    driver: Driver, chain: list[tuple[int, int, int, int]]
) -> None:
    for index, descriptor in enumerate(chain):
        driver.queue.write_descriptor(driver.queue.desc, index, *descriptor)
    driver.queue.put(0)
    driver.queue.show(kick=True)
    assert driver.breaks()
    driver.stop()
    driver.start()
    assert not driver.device.broken
    assert driver.wait(driver.ask(16)) == 16


@pytest.mark.parametrize(("head", "ahead"), [(SIZE, 1), (0xFFFF, 1), (0, SIZE + 1), (0, 0x8000)])
def test_an_index_from_nowhere_breaks_the_device(driver: Driver, head: int, ahead: int) -> None:
    driver.queue.put(head)
    driver.queue.store(driver.queue.avail + 2, ahead)
    os.eventfd_write(driver.queue.kick_fd, 1)
    assert driver.breaks()


@given(st.integers(0, 1 << 32), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_rings_of_noise_never_lead_out_of_memory(seed: int, steps: int) -> None:
    """The page behind RAM faults. Whatever was written there, a reset brings the device back."""
    noise = random.Random(seed)
    driver = Driver()
    driver.start()
    for _ in range(steps):
        at = noise.randrange(driver.queue.desc, driver.queue.tables - 16)
        if noise.random() < 0.5:
            where = noise.choice([BUFFERS, RAM - 32, noise.randrange(1 << 64)])
            fields = where, noise.choice([0, 1, 64, 1 << 31]), noise.randrange(8), noise.randrange(SIZE + 2)
            driver.memory.write(at & ~15, struct.pack("<QIHH", *fields))
        else:
            driver.memory.write(at, noise.randbytes(2))
        driver.queue.store(driver.queue.avail + 2, noise.randrange(1 << 16) if noise.random() < 0.1 else SIZE)
        os.eventfd_write(driver.queue.kick_fd, 1)
    driver.stop()
    driver.start()
    assert driver.wait(driver.ask(32)) == 32
    driver.close()
