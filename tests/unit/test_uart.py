"""The 16550A, register by register, as the datasheet and Linux's 8250 driver expect it."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.core.waiting import READABLE, wait_for
from corral.native import lib
from tests.support.uart import (
    DATA,
    IER,
    IIR_DATA,
    IIR_FCR,
    IIR_LINE,
    IIR_MODEM,
    IIR_NONE,
    IIR_THRE,
    IIR_TIMEOUT,
    LCR,
    LOOP,
    LSR,
    LSR_DATA,
    LSR_OVERRUN,
    LSR_THRE,
    MCR,
    MSR,
    OUT2,
    RTS,
    SCR,
    BareUart,
)

RING = 256 * 1024


def is_readable(descriptor: int) -> bool:
    return bool(wait_for({descriptor: READABLE}, time.monotonic()))


@pytest.fixture
def uart() -> Iterator[BareUart]:
    uart = BareUart()
    yield uart
    uart.close()


def listen(uart: BareUart, fcr: int = 0) -> None:
    """What a driver does when it is ready for input."""
    uart.out(IIR_FCR, fcr)
    uart.out(IER, 0x01)


def drain_all(uart: BareUart) -> bytes:
    return b"".join(iter(uart.drain, b""))


def test_reset_state(uart: BareUart) -> None:
    assert uart.inp(LSR) == 0x60
    assert uart.inp(IIR_FCR) == IIR_NONE
    assert uart.inp(MSR) & 0xF0 == 0xB0
    assert [uart.inp(register) for register in (IER, LCR, MCR, SCR)] == [0, 0, 0, 0]


def test_output_comes_out_in_order(uart: BareUart) -> None:
    for byte in b"hello\n":
        uart.out(DATA, byte)
    assert uart.drain() == b"hello\n"
    assert uart.drain() == b""


def test_the_descriptor_is_readable_exactly_while_there_is_output(uart: BareUart) -> None:
    output = uart.watch()

    def readable() -> bool:
        return bool(select.select([output], [], [], 0)[0])

    assert not readable()
    for byte in b"ab":
        uart.out(DATA, byte)
    assert readable()
    uart.drain()
    assert not readable()
    uart.out(DATA, 0x63)
    assert readable()
    os.close(output)


def test_the_divisor_latch_hides_data_and_ier(uart: BareUart) -> None:
    uart.out(IER, 0x05)
    uart.out(LCR, 0x83)
    uart.out(DATA, 0x0C)
    uart.out(IER, 0x01)
    assert (uart.inp(DATA), uart.inp(IER)) == (0x0C, 0x01)
    uart.out(LCR, 0x03)
    assert uart.inp(IER) == 0x05
    assert uart.drain() == b""


def test_scratch_and_masks(uart: BareUart) -> None:
    uart.out(SCR, 0x5A)
    uart.out(IER, 0xFF)
    uart.out(MCR, 0xE0)
    assert (uart.inp(SCR), uart.inp(IER), uart.inp(MCR)) == (0x5A, 0x0F, 0)


def test_fifos_are_announced_only_while_enabled(uart: BareUart) -> None:
    uart.out(IIR_FCR, 0x01)
    assert uart.inp(IIR_FCR) >> 6 == 3
    uart.out(IIR_FCR, 0x00)
    assert uart.inp(IIR_FCR) >> 6 == 0


def test_loopback_returns_data_and_modem_lines_and_sends_nothing(uart: BareUart) -> None:
    uart.out(MCR, LOOP | 0x0A)  # RTS and OUT2: Linux's own probe
    assert uart.inp(MSR) & 0xF0 == 0x90
    uart.out(DATA, 0x42)
    assert uart.inp(LSR) & LSR_DATA
    assert uart.inp(DATA) == 0x42
    assert uart.drain() == b""


def test_loopback_overruns_without_fifos(uart: BareUart) -> None:
    uart.out(MCR, LOOP)
    uart.out(IER, 0x04)
    uart.out(DATA, 1)
    uart.out(DATA, 2)
    assert uart.cause() == IIR_LINE
    assert uart.inp(LSR) & LSR_OVERRUN
    assert not uart.inp(LSR) & LSR_OVERRUN
    assert uart.inp(DATA) == 1


def test_changes_of_modem_lines_are_told_once(uart: BareUart) -> None:
    uart.out(IER, 0x08)
    uart.out(MCR, LOOP)
    assert uart.cause() == IIR_MODEM
    assert uart.inp(MSR) & 0x0F == 0x0B
    assert uart.inp(MSR) & 0x0F == 0
    assert uart.cause() == IIR_NONE


def test_a_line_that_is_hung_up_has_no_carrier_any_more(uart: BareUart) -> None:
    uart.out(IER, 0x08)
    assert uart.inp(MSR) == 0xB0
    uart.hang_up()
    assert uart.cause() == IIR_MODEM
    assert uart.inp(MSR) == 0x38
    uart.out(MCR, RTS)
    uart.hang_up()
    assert uart.cause() == IIR_NONE
    assert uart.inp(MSR) == 0x30


def test_enabling_the_transmit_interrupt_interrupts_at_once(uart: BareUart) -> None:
    uart.out(IER, 0x02)
    assert uart.cause() == IIR_THRE
    assert uart.cause() == IIR_NONE  # reading IIR acknowledges it
    uart.out(DATA, 0x21)
    assert uart.cause() == IIR_THRE


def test_input_waits_until_the_guest_listens(uart: BareUart) -> None:
    assert uart.offer(b"abc") == 3
    uart.out(IIR_FCR, 0x07)  # a driver's start-up clears the FIFOs and reads what is left
    assert not uart.inp(LSR) & LSR_DATA
    uart.inp(DATA)
    uart.out(IER, 0x01)
    assert uart.cause() in (IIR_DATA, IIR_TIMEOUT)
    assert bytes(uart.inp(DATA) for _ in range(3)) == b"abc"
    assert not uart.inp(LSR) & LSR_DATA


@pytest.mark.parametrize("fcr", [(0x01,), (0x01, 0x00), (0x01, 0x00, 0x01)])
def test_a_set_up_that_switches_the_fifos_while_it_listens_loses_nothing(uart: BareUart, fcr: tuple[int, ...]) -> None:
    uart.offer(b"abcdefghijklmnopqrstuvw")
    uart.out(IER, 0x01)  # as Linux's driver, before it sets the FIFOs up
    for value in fcr:
        uart.out(IIR_FCR, value)
    assert bytes(uart.inp(DATA) for _ in range(23)) == b"abcdefghijklmnopqrstuvw"
    assert not uart.inp(LSR) & LSR_DATA
    assert uart.stats()["received"] == 23


def test_a_guest_that_listens_and_clears_is_rid_of_what_has_come(uart: BareUart) -> None:
    listen(uart, 0x01)
    uart.offer(b"abc")
    uart.out(IIR_FCR, 0x03)
    assert not uart.inp(LSR) & LSR_DATA


def test_a_guest_that_has_stopped_listening_finds_it_again(uart: BareUart) -> None:
    """Linux's driver clears the FIFOs when the last program closes the line; the next one shall have the input."""
    listen(uart, 0x01)
    uart.offer(b"abc")
    uart.out(IER, 0)
    uart.out(IIR_FCR, 0x07)
    assert not uart.inp(LSR) & LSR_DATA
    uart.out(IER, 0x01)
    assert bytes(uart.inp(DATA) for _ in range(3)) == b"abc"


def test_a_guest_that_only_polls_gets_its_input(uart: BareUart) -> None:
    uart.offer(b"x")
    polls = next(n for n in range(1000) if uart.inp(LSR) & LSR_DATA)
    assert polls > 0
    assert uart.inp(DATA) == ord("x")


def test_the_fifo_holds_sixteen_and_the_rest_follows(uart: BareUart) -> None:
    listen(uart, fcr=0xC1)
    text = bytes(range(100))
    assert uart.offer(text) == 100
    assert uart.cause() == IIR_DATA
    got = []
    while uart.inp(LSR) & LSR_DATA:
        got.append(uart.inp(DATA))
    assert bytes(got) == text


def test_below_the_trigger_level_it_is_a_timeout(uart: BareUart) -> None:
    listen(uart, fcr=0xC1)  # 14 bytes
    uart.offer(b"a")
    assert uart.cause() == IIR_TIMEOUT


def test_input_that_does_not_fit_is_refused_not_lost(uart: BareUart) -> None:
    text = os.urandom(100_000)
    taken = uart.offer(text)
    assert 0 < taken < len(text)
    assert uart.stats()["refused"] == len(text) - taken
    listen(uart)
    got = bytearray()
    while uart.inp(LSR) & LSR_DATA:
        got.append(uart.inp(DATA))
        taken += uart.offer(text[taken : taken + 1])
    assert bytes(got) == text


def test_room_for_input_is_told_when_some_was_refused_and_half_of_it_was_read(uart: BareUart) -> None:
    room = uart.watch_room()
    try:
        listen(uart)
        uart.offer(b"x" * 100)
        assert not is_readable(room), "there was room for all"
        taken = uart.offer(b"x" * 100_000)
        assert taken < 100_000
        read = 0
        while not is_readable(room):
            assert uart.inp(LSR) & LSR_DATA, "all is read, and nobody was told"
            uart.inp(DATA)
            read += 1
        assert taken // 2 - 100 <= read < taken
        assert uart.offer(b"x" * 10) == 10
        assert not is_readable(room)
    finally:
        os.close(room)


def test_a_full_ring_holds_the_guest_back_and_room_lets_it_go_on(uart: BareUart) -> None:
    uart.out(IER, 0x02)
    sent = 0
    while uart.inp(LSR) & LSR_THRE:
        uart.out(DATA, sent & 0xFF)
        sent += 1
    assert sent <= RING
    uart.cause()
    assert uart.cause() == IIR_NONE
    assert uart.stats()["dropped"] == 0
    out = uart.drain()
    assert uart.inp(LSR) & LSR_THRE
    assert uart.cause() == IIR_THRE
    out += drain_all(uart)
    assert out == bytes(i & 0xFF for i in range(sent))


def test_a_guest_that_does_not_wait_loses_bytes_and_they_are_counted(uart: BareUart) -> None:
    for _ in range(RING + 100):
        uart.out(DATA, 0x78)
    assert uart.stats() == {"sent": RING, "dropped": 100, "received": 0, "refused": 0}
    assert drain_all(uart) == b"x" * RING


@pytest.mark.parametrize("size", [1, 2, 4])
def test_wide_accesses_touch_one_register(uart: BareUart, size: int) -> None:
    uart.out(DATA, 0x41424344, size)
    assert uart.drain() == b"D"
    assert uart.inp(SCR, size) == (0xFFFFFF00 & ((1 << 8 * size) - 1) if size > 1 else 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.integers(0, 7), st.integers(0, 0xFFFFFFFF)),
        st.tuples(st.just("in"), st.integers(0, 7)),
        st.tuples(st.just("offer"), st.binary(max_size=40)),
        st.tuples(st.just("drain")),
    ),
    max_size=200,
)


def test_what_a_guest_sends_to_itself_is_no_input_later() -> None:
    """It did come from the far end, when the loop was opened and the FIFOs switched."""
    uart = BareUart()
    try:
        uart.out(4, 16)  # MCR: loop
        uart.out(0, ord("x"))
        uart.out(4, 0)
        uart.out(2, 1)  # FCR: FIFOs on, which clears them
        assert uart.stats()["received"] == 0
        uart.out(1, 1)  # IER: it listens
        assert not uart.inp(5) & 1  # LSR
    finally:
        uart.close()


@settings(deadline=None)
@given(STEPS)
def test_any_sequence_keeps_the_books(steps: list[tuple[object, ...]]) -> None:
    """Whatever a guest does: sent equals drained, offered equals received plus what waits, registers are bytes."""
    uart = BareUart()
    try:
        drained = offered = 0
        for step in steps:
            match step:
                case ("out", int(register), int(value)):
                    uart.out(register, value)
                case ("in", int(register)):
                    assert 0 <= uart.inp(register) <= 0xFF
                case ("offer", bytes(data)):
                    offered += uart.offer(data)
                case _:
                    drained += len(uart.drain())
        drained += len(drain_all(uart))
        stats = uart.stats()
        assert stats["sent"] == drained
        assert stats["dropped"] == 0
        assert stats["received"] <= offered
        assert lib.corral_uart_output_fd(uart._uart.value) >= 0
    finally:
        uart.close()


def test_out2_is_kept(uart: BareUart) -> None:
    uart.out(MCR, OUT2)
    assert uart.inp(MCR) == OUT2


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.integers(0, 7), st.integers(0, 255)),
        st.tuples(st.just("in"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("offer"), st.binary(max_size=20), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


def apply(uart: BareUart, operations: list[tuple[str, Any, int]]) -> list[object]:
    """What a driver and the far end see of them."""
    seen: list[object] = []
    for what, register, value in operations:
        if what == "out":
            uart.out(register, value)
        elif what == "in":
            seen.append(uart.inp(register))
        elif what == "offer":
            uart.offer(register)
        else:
            seen.append(uart.drain())
    return seen


@given(before=OPERATIONS, after=OPERATIONS)
def test_a_restored_one_answers_as_the_one_that_was_saved(
    before: list[tuple[str, Any, int]], after: list[tuple[str, Any, int]]
) -> None:
    with contextlib.closing(BareUart()) as first, contextlib.closing(BareUart()) as second:
        # What is on its way to a UART, or from it, is not of its state; loop-back fills the FIFO.
        apply(first, [one for one in before if one[0] != "offer"])
        first.drain()
        state = first.save()
        second.restore(state)
        assert second.save() == state
        assert apply(second, after) == apply(first, after)


@pytest.mark.parametrize("change", [{"trigger": 3}, {"trigger": 0}, {"fifo": bytes(17)}])
def test_a_state_that_no_uart_has(change: dict[str, Any]) -> None:
    with contextlib.closing(BareUart()) as uart:
        state = uart.save()
        values = {name: getattr(state, name) for name in type(state).__annotations__} | change
        with pytest.raises(ValueError, match=r"serial port|FIFO"):
            uart.restore(type(state)(**values))
        assert uart.save() == state
