"""The Python API's breakpoints, watchpoints, steps and places, on this host's KVM."""

from __future__ import annotations

from pathlib import Path

import pytest

import corral
from corral import Machine, MachineConfig
from corral.core.exits import Cause
from corral.core.vcpu_thread import State
from corral.debug.breakpoints import PointKind, Stop, Why
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.guests import kernel
from corral.symbols import table
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

GUEST = labels(tiny_guest("debugged"))
LONG = 300.0  # seconds: nothing takes so long unless it hangs
HLT = 0xF4
NUMBERS = [5, 4, 3, 2, 1]  # RBX at each call of guests/asm/debugged.S's work


def machine(name: str = "debugged", cpus: int = 1, **defines: int) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20, cpus=cpus))


def test_an_address_is_come_to_each_time() -> None:
    with machine() as vm:
        seen = []
        for _ in NUMBERS:
            stop = vm.run_until(GUEST["work"], LONG).stop
            assert stop is not None
            assert (stop.why, stop.rip, vm.regs.rip) == (Why.BREAKPOINT, GUEST["work"], GUEST["work"])
            assert not vm.running
            seen.append(vm.regs.rbx)
        assert seen == NUMBERS
        assert vm.debugger.points == []
        with pytest.raises(GuestError, match=f"ended before the way to {GUEST['work']:#x} came: the guest reset"):
            vm.run_until(GUEST["work"], LONG)
        assert vm.wait(LONG).cause is Cause.RESET


def test_a_place_that_is_not_come_to() -> None:
    with machine("spin") as vm:
        with pytest.raises(GuestTimeout, match="did not come within"):
            vm.run_until(0x12345, 0.2)
        assert vm.console.output == b"r"
        assert not vm.running


def test_a_breakpoint_without_a_callback_stays_and_wait_passes_it() -> None:
    with machine() as vm:
        point = vm.breakpoint(GUEST["work"])
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        assert stop.point is point
        assert vm.wait(LONG).cause is Cause.RESET
        assert point.hits == len(NUMBERS)


def test_callbacks_look_and_change_and_decide() -> None:
    with machine() as vm:
        seen = []

        def look(stop: Stop) -> bool:
            assert {thread.state for thread in vm.threads} == {State.PAUSED}
            seen.append(vm.regs.rbx)
            if vm.regs.rbx == 4:
                vm.regs.rbx = 2
            return seen[-1] == 1

        point = vm.breakpoint(GUEST["work"], look)
        stop = vm.run_until("never said", LONG).stop
        assert stop is not None
        assert stop.point is point
        assert seen == [5, 4, 1]
        vm.remove(point)
        assert vm.wait(LONG).cause is Cause.RESET
        assert seen == [5, 4, 1]


def test_a_callback_that_raises_leaves_the_machine_inspectable_and_able_to_go_on() -> None:
    with machine() as vm:

        def broken(stop: Stop) -> None:
            raise ZeroDivisionError("a callback with a mistake")

        point = vm.breakpoint(GUEST["work"], broken)
        with pytest.raises(ZeroDivisionError):
            vm.wait(LONG)
        assert (vm.running, vm.regs.rip, vm.regs.rbx) == (False, GUEST["work"], 5)
        vm.remove(point)
        assert vm.wait(LONG).cause is Cause.RESET


def test_more_breakpoints_than_debug_registers_and_an_exit_that_is_waited_for_with_them() -> None:
    """A pagetable KVM tells of each as a write to a port: the exit hook, which sees every exit, must not see these."""
    with machine() as vm:
        for address in range(0x20000, 0x20004):
            vm.breakpoint(address)
        point = vm.breakpoint(GUEST["work"])
        assert point.kind is (PointKind.SOFTWARE if vm.debugger.registers_left == 0 else PointKind.HARDWARE)
        for number in NUMBERS:
            assert vm.run_until(exit=lambda exit: exit.address == 0x80, timeout=LONG).stop is not None
            assert vm.regs.rbx == number
            found = vm.run_until(exit=lambda exit: exit.reason == "IO", timeout=LONG).exit
            assert found is not None
            assert (found.address, found.size) == (0x80, 1)
        assert vm.wait(LONG).cause is Cause.RESET


def test_a_watchpoint() -> None:
    with machine() as vm:
        vm.watchpoint(GUEST["result"], 4)
        seen = []
        for _ in NUMBERS:
            assert vm.run_until(timeout=LONG).stop is not None
            seen.append(vm.mem[GUEST["result"]].u32)
        assert seen == NUMBERS


def test_steps() -> None:
    with machine() as vm:
        vm.run_until(GUEST["work"], LONG)
        assert vm.step().rip == GUEST["work"] + 1  # over a NOP
        assert vm.step().why is Why.STEP
        assert vm.mem[GUEST["result"]].u32 == 5
        assert vm.wait(LONG).cause is Cause.RESET


def test_the_first_step_is_the_guests_first() -> None:
    with machine(cpus=2) as vm:
        first = vm.regs.rip
        vm.step(timeout=LONG)
        assert vm.regs.rip != first
        assert vm.regs.rbx not in NUMBERS
        vm.run_until(GUEST["work"], LONG)
        assert vm.regs.rbx == 5


def test_a_step_that_does_not_end() -> None:
    with machine("halt") as vm:
        vm.run_until(condition=lambda vm: vm.mem[vm.regs.rip - 1].u8 == HLT, timeout=LONG)
        with pytest.raises(GuestTimeout, match="was not over within"):
            vm.step(timeout=0.3)


def test_run_until_nothing() -> None:
    with machine() as vm:
        with pytest.raises(ConfigError, match="needs a text, a place"):
            vm.run_until()
        with pytest.raises(ConfigError, match=r"no symbol 'start_kernel'"):
            vm.run_until(at="start_kernel")


def test_linux_by_its_symbols() -> None:
    with corral.linux(kernel=kernel.get("small").path) as vm:
        stop = vm.run_until(at="start_kernel", timeout=LONG).stop
        assert stop is not None
        assert vm.symbols.text(stop.rip) == "start_kernel"
        assert stop.rip == vm.symbols.address("start_kernel")
        assert vm.run_until(at="rest_init", timeout=LONG).stop is not None
        assert vm.mem[vm.symbols.address("linux_banner")].string(64).startswith(b"Linux version ")
        with pytest.raises(ConfigError, match="no symbol 'start_kernal'; it has start_kernel"):
            vm.run_until(at="start_kernal")
        vm.console.expect("# ", timeout=2 * LONG)


def test_symbols_of_data_and_of_several_by_a_name(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text("ffffffff81000000 T one\nffffffff81000010 t two\nffffffff81000020 t two\nffffffff82000000 D data\n")
    known = table.read(str(path))
    assert known.address("data") == 0xFFFFFFFF82000000
    assert known.address("two") == 0xFFFFFFFF81000010
    assert known.text(0xFFFFFFFF81000011) == "two+0x1"
