"""A split queue step by step, with no thread on the other side: when to interrupt, when to ask for doorbells."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from corral.memory import GuestMemory
from corral.native import CData, ffi, lib
from tests.support.virtio_driver import Queue

SIZE = 8


class Pair:
    """Both halves of a queue."""

    def __init__(self, event_idx: bool) -> None:
        self.memory = GuestMemory(1 << 20)
        self.driver = Queue(self.memory, 0x1000, SIZE, event_idx)
        self.device: CData = ffi.new("struct corral_virtq *")
        self.chain: CData = ffi.new("struct corral_chain *")
        at = self.driver
        assert not lib.corral_virtq_init(
            self.device, self.memory.native, SIZE, at.desc, at.avail, at.used, event_idx, True
        )

    def close(self) -> None:
        self.driver.close()
        self.memory.close()

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self.driver.add([(0x8000, 16)], [], indirect=True)
        self.driver.show(False)

    def pop(self) -> int:
        return int(lib.corral_virtq_pop(self.device, self.chain))

    def finish(self, count: int) -> bool:
        """Pops and gives back `count` chains in one publication. True: the driver wants an interrupt."""
        for _ in range(count):
            assert self.pop() == 1
            lib.corral_virtq_push(self.device, self.chain.head, 0)
        lib.corral_virtq_publish(self.device)
        return bool(lib.corral_virtq_tell(self.device))


@pytest.fixture(params=[True, False], ids=["event index", "flags"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(request.param)
    yield pair
    pair.close()


def test_nothing_is_seen_before_it_is_published(pair: Pair) -> None:
    pair.add(3)
    for _ in range(3):
        assert pair.pop() == 1
        lib.corral_virtq_push(pair.device, pair.chain.head, 0)
    assert pair.driver.used_idx == 0
    lib.corral_virtq_publish(pair.device)
    assert pair.driver.used_idx == 3
    assert pair.pop() == 0
    assert lib.corral_virtq_tell(pair.device)
    lib.corral_virtq_publish(pair.device)
    assert not lib.corral_virtq_tell(pair.device)  # there is nothing new


def test_a_chain_that_came_before_listening_is_not_missed(pair: Pair) -> None:
    assert not lib.corral_virtq_listen(pair.device)
    lib.corral_virtq_ignore(pair.device)
    assert pair.pop() == 0
    pair.add()
    assert lib.corral_virtq_listen(pair.device)
    assert pair.finish(1) is not None
    assert not lib.corral_virtq_listen(pair.device)


def test_doorbells_only_while_the_device_listens(pair: Pair) -> None:
    lib.corral_virtq_listen(pair.device)
    pair.driver.add([(0x8000, 16)], [])
    assert pair.driver.show(None)
    lib.corral_virtq_ignore(pair.device)
    pair.driver.add([(0x8000, 16)], [])
    assert not pair.driver.show(None)
    pair.finish(2)
    lib.corral_virtq_listen(pair.device)
    pair.driver.add([(0x8000, 16)], [])
    assert pair.driver.show(None)


def test_more_chains_in_flight_than_descriptors(pair: Pair) -> None:
    pair.add(SIZE)
    for _ in range(SIZE):
        assert pair.pop() == 1
    assert pair.pop() == 0
    pair.driver.put(0)
    pair.driver.show(False)
    assert pair.pop() == -errno.EPROTO
    assert pair.device.broken
    assert pair.pop() == -errno.EPROTO


def test_a_full_queue_again_and_again(pair: Pair) -> None:
    for _ in range(70_000 // SIZE):  # once around 16 bits
        pair.add(SIZE)
        pair.finish(SIZE)
        assert len(pair.driver.take_used()) == SIZE
    assert not pair.device.broken


@pytest.mark.parametrize("after", range(6))
def test_interrupts_by_event_index(after: int) -> None:
    """Virtio 1.2 section 2.7.10: when the published index passes the one that the driver named."""
    pair = Pair(event_idx=True)
    pair.add(6)
    pair.driver.want_interrupt(after)
    assert [pair.finish(count) for count in (1, 2, 3)] == [after == 0, after in (1, 2), after in (3, 4, 5)]
    pair.close()


def test_several_publications_are_told_as_one() -> None:
    pair = Pair(event_idx=True)
    pair.add(4)
    pair.driver.want_interrupt(1)
    for _ in range(3):
        assert pair.pop() == 1
        lib.corral_virtq_push(pair.device, pair.chain.head, 0)
        lib.corral_virtq_publish(pair.device)
    assert pair.driver.used_idx == 3
    assert lib.corral_virtq_wants_interrupt(pair.device)
    assert lib.corral_virtq_tell(pair.device)
    assert not lib.corral_virtq_wants_interrupt(pair.device)
    assert not lib.corral_virtq_tell(pair.device)
    pair.close()


def test_interrupts_by_flags() -> None:
    pair = Pair(event_idx=False)
    pair.add(3)
    assert pair.finish(1)
    pair.driver.no_interrupts()
    assert not pair.finish(1)
    pair.driver.no_interrupts(False)
    assert pair.finish(1)
    pair.close()
