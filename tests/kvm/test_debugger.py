"""Breakpoints, watchpoints and steps over tiny guests, on this host's KVM."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.arch.x86_64.registers import Mode
from corral.config import FlatEntry, MachineConfig
from corral.core.exits import Cause
from corral.core.vcpu_thread import State
from corral.debug.breakpoints import Point, PointKind, Stop, Why, debug_registers
from corral.debug.debugger import Debugger, GuestAddressError
from corral.debug.host_debugging import delivers_points
from corral.errors import ConfigError
from corral.machine import Machine
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

GUEST = labels(tiny_guest("debugged"))
LONG = 300.0  # seconds: nothing takes so long unless it hangs
NUMBERS = [5, 4, 3, 2, 1]  # RBX at each call of guests/asm/debugged.S's work
BOOT_SECTOR = 0x7C00
COUNTER = 0x10100  # of guests/asm/smp.S


def machine(name: str, cpus: int = 1, **defines: int) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20, cpus=cpus))


@pytest.fixture
def guest() -> Iterator[Debugger]:
    with machine("debugged") as vm, Debugger(vm) as debugger:
        yield debugger


def rbx(debugger: Debugger) -> int:
    return int(debugger.machine.vcpus[0].get_regs().rbx)


@pytest.mark.parametrize("kind", [PointKind.SOFTWARE, PointKind.HARDWARE])
def test_a_breakpoint_is_met_each_time(guest: Debugger, kind: PointKind) -> None:
    code = guest.read(GUEST["work"], 4)
    point = guest.add(kind, GUEST["work"])
    seen = []
    while (stop := guest.run(LONG)).why is Why.BREAKPOINT:
        assert (stop.rip, stop.point) == (GUEST["work"], point)
        assert guest.read(stop.rip, 4) == code, "the guest's memory shows a breakpoint"
        seen.append(rbx(guest))
    assert seen == NUMBERS
    assert point.hits == len(NUMBERS)
    assert stop.why is Why.ENDED
    assert guest.machine.threads[0].end is not None
    assert guest.machine.threads[0].end.cause is Cause.RESET
    assert guest.run(LONG).why is Why.ENDED, "it stays so"


@pytest.mark.parametrize("kind", [PointKind.SOFTWARE, PointKind.HARDWARE])
def test_a_breakpoint_in_real_mode(kind: PointKind, tmp_path: Path) -> None:
    """At the NOP of: MOV CX, 5; MOV DX, COM1; MOV AL, 'x'; then OUT, NOP and LOOP; and a reset."""
    code, nop = tmp_path / "code", 9
    code.write_bytes(bytes.fromhex("b90500 baf803 b078 ee 90 e2fc b0fe e664 f4").ljust(512, b"\xf4"))
    flat = FlatEntry(Mode.REAL, BOOT_SECTOR)
    with Machine(MachineConfig(kernel=str(code), memory=16 << 20, flat=flat)) as vm, Debugger(vm) as debugger:
        debugger.add(kind, BOOT_SECTOR + nop)
        counts = []
        while (stop := debugger.run(LONG)).why is Why.BREAKPOINT:
            regs = vm.vcpus[0].get_regs()
            assert (stop.rip, regs.rip) == (BOOT_SECTOR + nop, nop)
            counts.append(regs.rcx)
        assert counts == NUMBERS
        assert stop.why is Why.ENDED


def test_a_point_that_is_removed_is_not_met(guest: Debugger) -> None:
    point = guest.add(PointKind.SOFTWARE, GUEST["work"])
    assert guest.run(LONG).point is point
    guest.remove(point)
    assert guest.run(LONG).why is Why.ENDED


def test_steps_go_one_instruction_each(guest: Debugger) -> None:
    """A store, a port write, and back to the caller."""
    guest.add(PointKind.SOFTWARE, GUEST["work"])
    guest.run(LONG)
    places = [guest.step().rip - GUEST["work"] for _ in range(5)]
    assert places == [1, 7, 12, 13, 14]
    assert guest.step().rip == GUEST["again"] + 5
    assert guest.read(GUEST["result"], 1)[0] == NUMBERS[0]


def test_a_step_over_an_instruction_that_corral_completes() -> None:
    with machine("vector") as vm, Debugger(vm) as debugger:
        if not vm.vcpus[0].native.assist:
            pytest.skip("this KVM needs no completion")
        long = labels(tiny_guest("vector"))["long"]
        debugger.add(PointKind.HARDWARE, long)
        assert debugger.run(LONG).rip == long
        ends = [debugger.step().rip - long for _ in range(8)]
        assert ends == [5, 7, 9, 14, 16, 19, 27, 35]


def test_a_watchpoint_stops_after_each_store(guest: Debugger) -> None:
    guest.add(PointKind.WRITE, GUEST["result"], 4)
    values = []
    while (stop := guest.run(LONG)).why is Why.WATCHPOINT:
        values.append(int.from_bytes(guest.read(GUEST["result"], 4), "little"))
    assert values == NUMBERS
    assert stop.why is Why.ENDED


def test_callbacks_run_with_all_stopped_and_the_guest_goes_on() -> None:
    with machine("smp", 2, CPUS=2) as vm, Debugger(vm) as debugger:
        states = []

        def note(stop: Stop) -> bool:
            states.append([thread.state for thread in vm.threads])
            return len(states) == 3

        debugger.add(PointKind.SOFTWARE, labels(tiny_guest("smp", CPUS=2))["counting"], callback=note)
        stop = debugger.run(LONG)
        assert (stop.why, stop.vcpu) == (Why.BREAKPOINT, 0)
        assert states == [[State.PAUSED] * 2] * 3


def test_a_callback_that_raises_leaves_the_guest_stopped_and_to_be_looked_at(guest: Debugger) -> None:
    def fail(stop: Stop) -> None:
        raise ZeroDivisionError("of the hook")

    guest.add(PointKind.SOFTWARE, GUEST["work"], callback=fail)
    with pytest.raises(ZeroDivisionError, match="of the hook"):
        guest.run(LONG)
    assert guest.machine.threads[0].state is State.PAUSED
    assert (guest.rip(), rbx(guest)) == (GUEST["work"], NUMBERS[0])
    guest.points[0].callback = None
    assert guest.run(LONG).point is guest.points[0]
    assert rbx(guest) == NUMBERS[1]


def test_pause_from_another_thread() -> None:
    with machine("smp", 2, CPUS=2) as vm, Debugger(vm) as debugger:
        threading.Timer(0.3, debugger.interrupt).start()
        assert debugger.run(LONG).why is Why.PAUSE
        before = vm.memory.read(COUNTER, 8)
        time.sleep(0.05)
        assert vm.memory.read(COUNTER, 8) == before
        assert debugger.run(0.05).why is Why.TIMEOUT


def test_attached_to_a_guest_that_runs_and_taken_away() -> None:
    with machine("smp", 1, CPUS=1) as vm:
        vm.start()
        for _ in range(3):
            with Debugger(vm) as debugger:
                debugger.add(PointKind.WRITE, COUNTER, 4)
                assert debugger.run(LONG).why is Why.WATCHPOINT
            before, deadline = vm.memory.read(COUNTER, 4), time.monotonic() + LONG
            while vm.memory.read(COUNTER, 4) == before:
                assert time.monotonic() < deadline, "it does not go on"


def test_points_that_cannot_be(guest: Debugger) -> None:
    for size, address in [(3, 0), (16, 0), (4, 2)]:
        with pytest.raises(ConfigError, match="cannot be watched"):
            guest.add(PointKind.WRITE, address, size)
    with pytest.raises(ConfigError, match="64-bit"):
        guest.add(PointKind.HARDWARE, 1 << 64)
    with pytest.raises(GuestAddressError):
        guest.add(PointKind.SOFTWARE, 0xC0000000)
    points = [guest.add(PointKind.HARDWARE, number) for number in range(4)]
    with pytest.raises(ConfigError, match="all four"):
        guest.add(PointKind.HARDWARE, 5)
    for point in points:
        guest.remove(point)
    if not delivers_points(guest.machine.system.kind):
        with pytest.raises(ConfigError, match="loads"):
            guest.add(PointKind.ACCESS, 0x1000, 4)
        for number in range(4):
            guest.add(PointKind.WRITE, 0x2000 + number)
        with pytest.raises(ConfigError, match="4 watchpoints"):
            guest.add(PointKind.WRITE, 0x3000)


def test_debug_registers() -> None:
    write = Point(PointKind.WRITE, GUEST["result"], 4, None)
    execute = Point(PointKind.HARDWARE, GUEST["work"], 1, None)
    registers = debug_registers([write, execute])
    assert registers[:4] == (GUEST["result"], GUEST["work"], 0, 0)
    assert registers[7] == 0x600 | 0b1010 | 0xD << 16
