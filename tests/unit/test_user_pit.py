"""The 8254 that counts by the host's clock, by a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.bus import Bus
from corral.devices.user_pit import FREQUENCY, UserPit, UserPitState
from corral.startup.record import replace


class Timed:
    """A timer behind a bus, and the time."""

    def __init__(self) -> None:
        self.time = 0
        self.pit = UserPit(lambda: self.time)
        self.bus = Bus("port")
        self.bus.claim(0x40, 0x43, self.pit)
        self.bus.claim(0x61, 0x61, self.pit, 0x21)

    def out(self, port: int, *values: int) -> None:
        for value in values:
            self.bus.write(port, 1, value)

    def read(self, port: int) -> int:
        return self.bus.read(port, 1)

    def count(self, counter: int) -> int:
        self.out(0x43, counter << 6)
        return self.read(0x40 + counter) | self.read(0x40 + counter) << 8

    def ticks(self, number: int) -> None:
        self.time += -(-number * 1_000_000_000 // FREQUENCY)


@pytest.fixture
def timer() -> Timed:
    return Timed()


def test_a_rate_generator_counts_down_and_begins_again(timer: Timed) -> None:
    timer.out(0x43, 0x34)  # counter 0, both bytes, mode 2
    timer.out(0x40, 100, 0)
    assert timer.count(0) == 100
    timer.ticks(30)
    assert timer.count(0) == 70
    timer.ticks(70)
    assert timer.count(0) == 100


def test_a_square_wave_counts_by_two(timer: Timed) -> None:
    timer.out(0x43, 0x36)
    timer.out(0x40, 0, 1)
    timer.ticks(100)
    assert timer.count(0) == 56


def test_a_latched_count_stays_until_it_is_read(timer: Timed) -> None:
    timer.out(0x43, 0x34)
    timer.out(0x40, 0, 0)  # 65,536
    timer.out(0x43, 0)
    timer.ticks(1000)
    timer.out(0x43, 0)  # not again
    assert (timer.read(0x40), timer.read(0x40)) == (0, 0)
    assert timer.count(0) == 65536 - 1000


def test_the_second_counter_as_linux_uses_it(timer: Timed) -> None:
    timer.out(0x61, 1)
    timer.out(0x43, 0xB0)  # counter 2, both bytes, mode 0
    timer.out(0x42, 0x10, 0x27)  # 10,000
    assert timer.read(0x61) & 0x20 == 0
    timer.ticks(9_999)
    assert timer.read(0x61) & 0x20 == 0
    timer.ticks(1)
    assert timer.read(0x61) & 0x20


def test_a_closed_gate_holds_the_count(timer: Timed) -> None:
    timer.out(0x61, 1)
    timer.out(0x43, 0xB0)
    timer.out(0x42, 0, 1)
    timer.ticks(100)
    timer.out(0x61, 0)
    timer.ticks(1000)
    assert timer.count(2) == 156
    timer.out(0x61, 1)
    timer.ticks(100)
    assert timer.count(2) == 56


def test_a_gate_that_opens_starts_a_rate_anew(timer: Timed) -> None:
    timer.out(0x61, 1)
    timer.out(0x43, 0xB4)
    timer.out(0x42, 0, 1)
    timer.ticks(100)
    timer.out(0x61, 0)
    assert timer.read(0x61) & 0x20  # out is high
    timer.out(0x61, 1)
    assert timer.count(2) == 256


def test_decimal_counts(timer: Timed) -> None:
    timer.out(0x43, 0x35)  # mode 2, BCD
    timer.out(0x40, 0, 0x10)  # 1000
    timer.ticks(1)
    assert timer.count(0) == 0x0999


def test_read_back_gives_status_then_count(timer: Timed) -> None:
    timer.out(0x43, 0x34)
    timer.out(0x40, 5, 0)
    timer.out(0x43, 0xC2)  # both of counter 0
    assert timer.read(0x40) & 0x7F == 0x34
    assert (timer.read(0x40), timer.read(0x40)) == (5, 0)


def test_port_61_keeps_the_speaker_and_shows_refresh(timer: Timed) -> None:
    timer.out(0x61, 0xFF)
    assert timer.read(0x61) & 0xCF & ~0x20 == 3
    refresh = timer.read(0x61) & 0x10
    timer.time += 15_085
    assert timer.read(0x61) & 0x10 != refresh


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from((0x40, 0x41, 0x42, 0x43, 0x61)), st.integers(0, 0xFF)),
        st.tuples(st.just(0), st.integers(0, 200_000)),  # time
    ),
    max_size=60,
)


@given(steps, steps)
def test_another_goes_on_from_its_state_after_any_time(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    first, second = Timed(), Timed()

    def carry_out(timer: Timed, some: list[tuple[int, int]]) -> list[int]:
        read = []
        for port, value in some:
            if port:
                timer.out(port, value)
            else:
                timer.ticks(value)
            read += [timer.read(one) & 0xEF for one in (0x40, 0x41, 0x42, 0x43, 0x61)]
        return read

    carry_out(first, before)
    state = first.pit.save()
    second.time = 10**15
    second.pit.restore(state)
    assert second.pit.save() == state
    # Time is rounded to a tick of the timer where it is taken over: no accesses between two ticks differ.
    timed = [step for step in after if step[0]]
    assert carry_out(second, timed) == carry_out(first, timed)


def test_a_state_that_no_timer_has_is_refused(timer: Timed) -> None:
    state = timer.pit.save()
    for change in ({"count": 0}, {"count": 0x10001}, {"mode": 6}, {"access": 0}, {"ticks": -1}, {"ticks": 1 << 63}):
        broken = replace(state.counters[0], **change)
        with pytest.raises(ValueError, match="no such state"):
            timer.pit.restore(UserPitState((broken, *state.counters[1:]), 0))
    with pytest.raises(ValueError, match="shorter"):
        timer.pit.restore(UserPitState(state.counters[:2], 0))
