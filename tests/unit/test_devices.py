"""The small devices: clock, keyboard controller, status port, and those of a BIOS."""

from __future__ import annotations

import calendar
import struct

import pytest

from corral.arch.x86_64 import layout
from corral.core.bus import Bus
from corral.core.exits import Cause, GuestEnded
from corral.devices.cmos import Cmos
from corral.devices.crt_controller import CrtController
from corral.devices.debug_exit import DebugExit
from corral.devices.fw_cfg import FwCfg
from corral.devices.handover import Handover, ResetControl
from corral.devices.i8042 import I8042
from corral.devices.pci_address import PciAddress
from corral.devices.pit import LatePit
from corral.devices.status_port import StatusPort
from corral.kvm.vm import Vm
from corral.native import CData, ffi

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


def fw_cfg_item(device: FwCfg, item: int, length: int) -> bytes:
    device.write(0, 2, item)
    return bytes(device.read(1, 1) for _ in range(length))


def test_a_firmware_reads_its_files() -> None:
    device = FwCfg({"etc/first": b"abc", "etc/second": b""}, cpus=258)
    assert fw_cfg_item(device, 0, 5) == b"QEMU\0"
    assert fw_cfg_item(device, 1, 4) == b"\1\0\0\0"
    assert fw_cfg_item(device, 5, 2) == b"\2\1"
    directory = fw_cfg_item(device, 0x19, 4 + 2 * 64)
    assert directory[:4] == b"\0\0\0\2"
    size, item, name = struct.unpack_from(">IH2x56s", directory, 4)
    assert (size, name.rstrip(b"\0")) == (3, b"etc/first")
    assert fw_cfg_item(device, item, 5) == b"abc\0\0"
    assert fw_cfg_item(device, item, 3) == b"abc"


@pytest.mark.parametrize(("offset", "value"), [(0, 0xFFFF), (0, 0x21), (1, 0), (0, 0x80000003)])
def test_a_firmware_asks_for_anything(offset: int, value: int) -> None:
    device = FwCfg({"etc/first": b"abc"}, cpus=1)
    device.write(offset, 4, value)
    assert (device.read(0, 2), device.read(1, 1)) == (0, 0)


def test_the_reset_control_register() -> None:
    ResetControl().write(0, 1, 0x02)
    with pytest.raises(GuestEnded) as end:
        ResetControl().write(0, 1, 0x06)
    assert end.value.cause is Cause.RESET


def test_a_handover_is_asked_for_by_a_write() -> None:
    calls: list[int] = []
    port = Handover(lambda: calls.append(1))
    assert port.read(0, 1) == 0xFF
    port.write(0, 1, 0)
    assert calls == [1]


def test_pcis_address_is_a_register_for_four_bytes_alone() -> None:
    """As Linux finds out: pci_check_type1 writes a byte of it first, then looks whether it keeps the enable bit."""
    bus = Bus("port")
    bus.claim(*layout.PCI_ADDRESS_PORTS, PciAddress())
    bus.write(0xCFB, 1, 1)
    assert bus.read(0xCF8, 4) == 0
    bus.write(0xCF8, 4, 0x80000000)
    assert bus.read(0xCF8, 4) == 0x80000000
    bus.write(0xCF8, 4, 0xFFFFFFFF)
    assert bus.read(0xCF8, 4) == 0x80FFFFFC
    assert (bus.read(0xCF8, 1), bus.read(0xCFA, 2), bus.read(0xCFC, 4)) == (0xFF, 0xFFFF, 0xFFFFFFFF)


class TimerInKernel(Vm):
    """Keeps the timer's state, as KVM does."""

    def __init__(self) -> None:
        self.made = 0
        self.state = ffi.new("struct kvm_pit_state2 *")

    def close(self) -> None:
        pass

    def create_pit(self) -> None:
        self.made += 1

    def get_pit(self) -> CData:
        return self.state

    def set_pit(self, state: CData) -> None:
        self.state = state

    def modes(self) -> list[tuple[int, int, int]]:
        return [(channel.rw_mode, channel.mode, channel.count) for channel in self.state.channels]


AS_A_BIOS_LEAVES_IT = [(3, 3, 0), (1, 2, 18), (3, 3, 0)]


def test_the_timer_is_as_a_bios_leaves_it_and_made_once() -> None:
    kernel = TimerInKernel()
    pit = LatePit(kernel)
    assert kernel.made == 0
    pit.make()
    pit.make()
    assert kernel.made == 1
    assert kernel.modes() == AS_A_BIOS_LEAVES_IT


def test_the_first_access_to_the_timer_counts() -> None:
    kernel = TimerInKernel()
    LatePit(kernel).write(0, 1, 0x9C)  # the low byte: the high one is the kernel's to take
    assert (kernel.state.channels[0].write_latch, kernel.state.channels[0].write_state) == (0x9C, 4)
    kernel = TimerInKernel()
    LatePit(kernel).write(1, 1, 9)
    assert kernel.modes()[1] == (1, 2, 9)
    kernel = TimerInKernel()
    LatePit(kernel).write(3, 1, 0x1E)  # counter 0, low byte, mode 7: that is 3
    assert kernel.modes()[0] == (1, 3, 0)
    kernel = TimerInKernel()
    LatePit(kernel).write(3, 1, 0)  # latch: nothing to program
    assert kernel.modes() == AS_A_BIOS_LEAVES_IT
    kernel = TimerInKernel()
    assert LatePit(kernel).read(2, 1) == 0
    assert kernel.state.channels[2].read_state == 4  # the high byte is next


def test_the_cursor_of_the_text_screen_is_kept() -> None:
    bus = Bus("port")
    screen = CrtController()
    for first, last in layout.CRT_PORTS:
        bus.claim(first, last, screen, first - 0x3D4)
    bus.write(0x3D4, 1, 14)
    assert bus.read(0x3D5, 1) == 0
    bus.write(0x3D5, 1, 7)
    bus.write(0x3D4, 2, 0xCF0F)
    assert (bus.read(0x3D4, 1), bus.read(0x3D5, 1), bus.read(0x3D4, 2)) == (15, 0xCF, 0xCF0F)
    bus.write(0x3D4, 1, 14)
    assert bus.read(0x3D5, 1) == 7
    bus.write(0x3D4, 1, 0x80)
    bus.write(0x3D5, 1, 1)
    assert bus.read(0x3D5, 1) == 0
    assert bus.read(0x3DA, 1) ^ bus.read(0x3DA, 1) == 9
