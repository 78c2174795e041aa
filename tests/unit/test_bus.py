"""Buses: claimed ranges, holes, edges, and any access a guest can make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.bus import Bus
from corral.errors import KvmError
from corral.native import CData, ffi, lib


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


def constant(value: int) -> CData:
    return ffi.new("uint32_t *", value)


def read_in_c(bus: Bus, address: int, size: int = 4) -> int | None:
    """What a vCPU reads at an MMIO address without Python; None: C leaves it to Python."""
    run = ffi.new("struct kvm_run *")
    run.mmio.phys_addr, run.mmio.len = address, size
    vcpu = ffi.new("struct corral_vcpu *", {"run": run, "mmio": bus.native})
    finished = lib.corral_finish_mmio(vcpu)
    return int.from_bytes(bytes(run.mmio.data)[:size], "little") if finished else None


def test_a_device_says_which_of_its_registers_c_finishes() -> None:
    bus, device, seven = Bus("MMIO"), Recorder(0x12), constant(7)
    bus.claim(0xD0000000, 0xD0000FFF, device, in_c=((0x60, 0x67, lib.corral_bus_constant, seven),))
    assert read_in_c(bus, 0xD0000060) == read_in_c(bus, 0xD0000067, 1) == 7
    assert [read_in_c(bus, 0xD0000000 + at) for at in (0x5C, 0x5E, 0x65, 0x68)] == [None] * 4
    assert read_in_c(bus, 0xD0000060, 8) is None
    assert bus.read(0xD0000060, 4) == 0x12  # where C left it to Python


def test_registers_far_into_a_range_are_no_others() -> None:
    bus, first, second = Bus("MMIO"), constant(1), constant(2)
    in_c = ((0x40, 0x43, lib.corral_bus_constant, first), (0x10040, 0x10043, lib.corral_bus_constant, second))
    bus.claim(1 << 32, (1 << 32) + 0xFFFFF, None, in_c=in_c)
    assert [read_in_c(bus, (1 << 32) + at) for at in (0x40, 0x10040, 0x20040)] == [1, 2, None]


def test_c_has_room_for_64_ranges_and_a_claim_beyond_is_refused() -> None:
    bus, one = Bus("MMIO"), constant(1)
    for at in reversed(range(64)):
        bus.claim(at * 16, at * 16 + 3, None, in_c=((0, 3, lib.corral_bus_constant, one),))
    assert all(read_in_c(bus, at * 16) == 1 and read_in_c(bus, at * 16 + 4) is None for at in range(64))
    with pytest.raises(KvmError):
        bus.claim(0x1000, 0x1003, None, in_c=((0, 3, lib.corral_bus_constant, one),))


def test_what_is_refused_says_whose_the_range_is() -> None:
    bus = Bus("port")
    bus.claim(0x3F8, 0x3FF, None, owner="the console")
    with pytest.raises(ValueError, match=r"^port 0x3ff-0x402 overlaps the console at 0x3f8-0x3ff$"):
        bus.claim(0x3FF, 0x402, Recorder())
    assert bus.read(0x3F8, 1) == 0xFF


@given(RANGES, st.integers(0, 400), st.sampled_from([1, 2, 4]))
def test_c_finds_what_a_linear_search_does(ranges: list[tuple[int, int]], address: int, size: int) -> None:
    bus = Bus("MMIO")
    kept: list[tuple[int, int, CData]] = []
    for number, (first, length) in enumerate(ranges):
        value = constant(number)
        result = lib.corral_bus_claim(bus.native, first, first + length, lib.corral_bus_constant, value)
        overlaps = any(first <= end and first + length >= start for start, end, _ in kept)
        assert (result < 0) == overlaps
        if not overlaps:
            kept.append((first, first + length, value))
    expected = [value[0] for start, end, value in kept if start <= address and address + size - 1 <= end]
    assert read_in_c(bus, address, size) == (expected[0] if expected else None)
