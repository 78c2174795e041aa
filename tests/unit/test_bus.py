"""Buses: claimed ranges, holes, edges, and any access a guest can make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.bus import Bus


class Recorder:
    """A device that remembers what reached it."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.seen: list[tuple[int, ...]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


def test_a_device_sees_offsets() -> None:
    bus, device = Bus("port"), Recorder(0x12)
    bus.claim(0x60, 0x64, device)
    assert bus.read(0x64, 1) == 0x12
    bus.write(0x60, 2, 0xABCD)
    assert device.seen == [(4, 1), (0, 2, 0xABCD)]


def test_unclaimed_reads_are_all_ones_and_counted() -> None:
    bus = Bus("MMIO")
    bus.claim(0x1000, 0x1FFF, Recorder())
    assert bus.read(0xFFF, 1) == 0xFF
    assert bus.read(0x2000, 8) == 2**64 - 1
    bus.write(0x2000, 4, 1)
    assert bus.unclaimed == 3


def test_an_access_across_the_end_of_a_range_reaches_nobody() -> None:
    bus, device = Bus("MMIO"), Recorder()
    bus.claim(0x1000, 0x1FFF, device)
    assert bus.read(0x1FFE, 4) == 0xFFFFFFFF
    assert device.seen == []


def test_a_device_cannot_return_more_than_was_asked_for() -> None:
    bus = Bus("port")
    bus.claim(0, 0, Recorder(0x1FF))
    assert bus.read(0, 1) == 0xFF


@pytest.mark.parametrize(("first", "last"), [(0, 0x10), (0x1F, 0x30), (0x12, 0x13), (0, 0xFF), (0x20, 0x10)])
def test_overlapping_and_empty_claims_are_refused(first: int, last: int) -> None:
    bus = Bus("port")
    bus.claim(0x10, 0x1F, Recorder())
    with pytest.raises(ValueError, match=r"overlaps|empty"):
        bus.claim(first, last, Recorder())


RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=12)


@given(RANGES, st.integers(0, 400), st.sampled_from([1, 2, 4, 8]))
def test_lookup_agrees_with_a_linear_search(ranges: list[tuple[int, int]], address: int, size: int) -> None:
    bus = Bus("MMIO")
    claimed: list[tuple[int, int, Recorder]] = []
    for first, length in ranges:
        device = Recorder()
        try:
            bus.claim(first, first + length, device)
        except ValueError:
            assert any(first <= c[1] and first + length >= c[0] for c in claimed)
        else:
            claimed.append((first, first + length, device))
    bus.write(address, size, 0)
    hits = [c for c in claimed if c[0] <= address and address + size - 1 <= c[1]]
    for first, _, device in claimed:
        assert device.seen == ([(address - first, size, 0)] if [c for c in hits if c[2] is device] else [])
    assert bus.unclaimed == (not hits)


def test_one_device_may_have_ranges_apart() -> None:
    bus, device = Bus("port"), Recorder()
    bus.claim(0x60, 0x60, device)
    bus.claim(0x64, 0x64, device, 4)
    bus.write(0x60, 1, 1)
    bus.write(0x64, 1, 2)
    assert device.seen == [(0, 1, 1), (4, 1, 2)]
