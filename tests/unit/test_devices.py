"""The small devices: clock, keyboard controller, status port."""

from __future__ import annotations

import calendar

import pytest

from corral.devices.cmos import Cmos
from corral.devices.debug_exit import DebugExit
from corral.devices.i8042 import I8042
from corral.devices.status_port import StatusPort
from corral.exits import Cause, GuestEnded

MOMENT = calendar.timegm((2031, 12, 28, 23, 59, 58))  # a Sunday


def cmos_register(clock: Cmos, index: int) -> int:
    clock.write(0, 1, index)
    return clock.read(1, 1)


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 0x58), (2, 0x59), (4, 0x23), (6, 1), (7, 0x28), (8, 0x12), (9, 0x31), (0x32, 0x20), (0x0D, 0x80)],
)
def test_the_clock_is_bcd_and_24_hours(index: int, value: int) -> None:
    assert cmos_register(Cmos(MOMENT), index) == value


def test_the_clock_is_never_in_the_middle_of_an_update() -> None:
    assert not cmos_register(Cmos(MOMENT), 0x0A) & 0x80


def test_the_nmi_mask_bit_is_not_part_of_the_index() -> None:
    assert cmos_register(Cmos(MOMENT), 0x80 | 9) == 0x31


def test_cmos_answers_any_index() -> None:
    assert all(0 <= cmos_register(Cmos(MOMENT), index) <= 0xFF for index in range(256))


def test_the_reset_line() -> None:
    with pytest.raises(GuestEnded) as end:
        I8042().write(4, 1, 0xFE)
    assert end.value.cause is Cause.RESET


@pytest.mark.parametrize(("offset", "value"), [(0, 0xFE), (4, 0xFF), (4, 0xAA), (4, 0)])
def test_nothing_else_resets(offset: int, value: int) -> None:
    I8042().write(offset, 1, value)


def test_a_driver_that_waits_for_the_keyboard_controller_does_not_wait() -> None:
    assert I8042().read(4, 1) & 0x13 == 0x10  # neither is there data to take nor is it busy, and no key locks it


def test_a_probe_of_the_keyboard_controller_gets_its_answers() -> None:
    controller = I8042()
    controller.write(4, 1, 0x60)
    controller.write(0, 1, 0x74)
    for command, answer in [(0x20, 0x74), (0xAA, 0x55), (0xAB, 0x01)]:
        controller.write(4, 1, command)
        assert controller.read(4, 1) & 1
        assert controller.read(0, 1) == answer
        assert not controller.read(4, 1) & 1


def test_the_status_port_keeps_the_last_byte() -> None:
    port = StatusPort()
    assert port.status is None
    port.write(0, 1, 3)
    port.write(0, 4, 0x107)
    assert port.status == 7


@pytest.mark.parametrize(("value", "status"), [(0, 1), (1, 3), (0x31, 0x63), (0x80, 1), (0xFFFFFFFF, 0xFF)])
def test_debug_exit_ends_the_guest_with_an_odd_status(value: int, status: int) -> None:
    told = StatusPort()
    with pytest.raises(GuestEnded) as ended:
        DebugExit(told).write(0, 4, value)
    assert ended.value.cause is Cause.DEBUG_EXIT
    assert ended.value.cause.clean
    assert told.status == status
    assert DebugExit(told).read(0, 4) == 0
