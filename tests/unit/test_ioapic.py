"""The IOAPIC's registers, lines and state, without KVM: nothing is sent, and remote IRR tells what would be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.bus import Bus
from corral.core.ioapic import PINS, REGISTERS, Ioapic, IoapicState
from corral.native import lib

BASE = 0xFEC00000
SELECT, WINDOW = BASE, BASE + 0x10
MASKED, LEVEL, REMOTE_IRR, ACTIVE_LOW, PENDING = 1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 12


class Driven:
    """An IOAPIC behind a bus, as a driver has it."""

    def __init__(self) -> None:
        self.ioapic = Ioapic(-1)
        self.bus = Bus("MMIO")
        self.bus.claim(BASE, BASE + REGISTERS - 1, self.ioapic, in_c=self.ioapic.in_c)

    def get(self, register: int) -> int:
        self.bus.write(SELECT, 4, register)
        return self.bus.read(WINDOW, 4)

    def set(self, register: int, value: int) -> None:
        self.bus.write(SELECT, 4, register)
        self.bus.write(WINDOW, 4, value)

    def line(self, pin: int, high: bool) -> int:
        return int(lib.corral_ioapic_line(self.ioapic.native, pin, high))

    def served(self, pin: int) -> bool:
        return bool(self.get(0x10 + 2 * pin) & REMOTE_IRR)


@pytest.fixture
def driven() -> Iterator[Driven]:
    driven = Driven()
    yield driven
    driven.ioapic.close()


def test_it_begins_with_all_pins_masked(driven: Driven) -> None:
    assert (driven.get(0), driven.get(1), driven.get(2)) == (0, (PINS - 1) << 16 | 0x11, 0)
    for pin in range(PINS):
        assert (driven.get(0x10 + 2 * pin), driven.get(0x11 + 2 * pin)) == (MASKED, 0)


def test_what_it_has_not_reads_as_ones_or_nothing(driven: Driven) -> None:
    for register in (3, 0xF, 0x10 + 2 * PINS, 0xFF):
        assert driven.get(register) == 0xFFFFFFFF
        driven.set(register, 0)
        assert driven.get(register) == 0xFFFFFFFF
    assert driven.bus.read(BASE + 0x40, 4) == 0  # an EOI register came later
    assert driven.bus.read(WINDOW, 8) == 0xFFFFFFFF


def test_the_id_has_four_bits_and_arbitration_follows_it(driven: Driven) -> None:
    driven.set(0, 0xFFFFFFFF)
    assert (driven.get(0), driven.get(2)) == (0xF << 24, 0xF << 24)
    driven.set(2, 0)
    assert driven.get(2) == 0xF << 24


def test_a_driver_does_not_write_what_tells_of_delivery(driven: Driven) -> None:
    driven.set(0x10, MASKED | LEVEL | REMOTE_IRR | PENDING | 0x31)
    assert driven.get(0x10) == MASKED | LEVEL | 0x31


def test_a_level_is_sent_once_until_it_is_served(driven: Driven) -> None:
    driven.set(0x10 + 8, LEVEL | 0x41)
    assert not driven.served(4)
    assert driven.line(4, True) == 0
    assert driven.served(4)
    driven.set(0x10 + 8, 0x41)  # as an edge it has no such bit
    assert not driven.served(4)
    driven.set(0x10 + 8, LEVEL | 0x41)  # and is sent again: it is up
    assert driven.served(4)


def test_a_masked_level_is_sent_when_it_is_unmasked_and_a_lowered_one_not(driven: Driven) -> None:
    driven.set(0x10, MASKED | LEVEL | 0x41)
    driven.line(0, True)
    assert not driven.served(0)
    driven.set(0x10, LEVEL | 0x41)
    assert driven.served(0)
    driven.set(0x12, MASKED | LEVEL | 0x42)
    driven.line(1, True)
    driven.line(1, False)
    driven.set(0x12, LEVEL | 0x42)
    assert not driven.served(1)


def test_an_active_low_line_requests_while_it_is_low(driven: Driven) -> None:
    driven.set(0x10, LEVEL | ACTIVE_LOW | 0x41)
    driven.line(0, True)
    assert not driven.served(0)
    driven.line(0, False)
    assert driven.served(0)


def test_there_are_no_other_lines(driven: Driven) -> None:
    assert driven.line(PINS, True) < 0
    assert driven.line(0xFFFFFFFF, True) < 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF)),
            st.tuples(st.just("line"), st.integers(0, PINS - 1), st.integers(0, 1)),
        ),
        max_size=60,
    )
)
def test_another_goes_on_from_its_state(steps: list[tuple[str, int, int]]) -> None:
    first, second = Driven(), Driven()
    try:
        for driven in (first, second):
            for number, (what, where, value) in enumerate(steps):
                if number == len(steps) // 2 and driven is second:
                    other = Ioapic(-1)
                    other.restore(driven.ioapic.save())
                    driven.ioapic.restore(other.save())
                    other.close()
                if what == "write":
                    driven.set(where, value)
                else:
                    driven.line(where, bool(value))
        assert first.ioapic.save() == second.ioapic.save()
    finally:
        first.ioapic.close()
        second.ioapic.close()


def test_a_state_that_no_ioapic_has_is_refused(driven: Driven) -> None:
    with pytest.raises(ValueError, match="pins"):
        driven.ioapic.restore(IoapicState(0, 0, 0, 0, (0,) * (PINS - 1)))
    with pytest.raises(OverflowError):
        driven.ioapic.restore(IoapicState(0, 0, 0, 0, (1 << 64,) * PINS))
    with pytest.raises(OverflowError):
        driven.ioapic.restore(IoapicState(256, 0, 0, 0, (0,) * PINS))
