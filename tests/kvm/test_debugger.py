"""Breakpoints, watchpoints and steps over tiny guests, on this host's KVM."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.config import MachineConfig
from corral.errors import ConfigError
from corral.exits import Cause
from corral.guests import kernel
from corral.machine import Machine
from corral.toolkit.breakpoints import Kind, Stop, Why, debug_registers
from corral.toolkit.debugger import Debugger, GuestAddressError
from corral.toolkit.host_debugging import of_host
from corral.vcpu import State
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

GUEST = labels(tiny_guest("debugged"))
LONG = 300.0  # seconds: nothing takes so long unless it hangs
NUMBERS = [5, 4, 3, 2, 1]  # RBX at each call of guests/asm/debugged.S's work
COUNTER = 0x10100  # of guests/asm/smp.S


def machine(name: str, cpus: int = 1, **defines: int) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20, cpus=cpus))


@pytest.fixture
def guest() -> Iterator[Debugger]:
    with machine("debugged") as vm, Debugger(vm) as debugger:
        yield debugger


def rbx(debugger: Debugger) -> int:
    return int(debugger.machine.vcpus[0].get_regs().rbx)


@pytest.mark.parametrize("kind", [Kind.SOFTWARE, Kind.HARDWARE])
def test_a_breakpoint_is_met_each_time(guest: Debugger, kind: Kind) -> None:
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


def test_a_point_that_is_removed_is_not_met(guest: Debugger) -> None:
    point = guest.add(Kind.SOFTWARE, GUEST["work"])
    assert guest.run(LONG).point is point
    guest.remove(point)
    assert guest.run(LONG).why is Why.ENDED


def test_steps_go_one_instruction_each(guest: Debugger) -> None:
    """A store, a port write, and back to the caller."""
    guest.add(Kind.SOFTWARE, GUEST["work"])
    guest.run(LONG)
    places = [guest.step().rip - GUEST["work"] for _ in range(5)]
    assert places == [1, 7, 12, 13, 14]
    assert guest.step().rip == GUEST["again"] + 5
    assert guest.read(GUEST["result"], 1)[0] == NUMBERS[0]


def test_a_step_over_an_instruction_that_corral_completes() -> None:
    with machine("vector") as vm, Debugger(vm) as debugger:
        if not debugger.assisted:
            pytest.skip("this KVM needs no completion")
        long = labels(tiny_guest("vector"))["long"]
        debugger.add(Kind.HARDWARE, long)
        assert debugger.run(LONG).rip == long
        ends = [debugger.step().rip - long for _ in range(8)]
        assert ends == [5, 7, 9, 14, 16, 19, 27, 35]


def test_a_watchpoint_stops_after_each_store(guest: Debugger) -> None:
    guest.add(Kind.WRITE, GUEST["result"], 4)
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

        debugger.add(Kind.WRITE, COUNTER, 4, note)
        stop = debugger.run(LONG)
        assert stop.why is Why.WATCHPOINT
        assert states == [[State.PAUSED] * 2] * 3


def test_a_callback_that_raises_leaves_the_guest_stopped_and_to_be_looked_at(guest: Debugger) -> None:
    def fail(stop: Stop) -> None:
        raise ZeroDivisionError("of the hook")

    guest.add(Kind.SOFTWARE, GUEST["work"], callback=fail)
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
                debugger.add(Kind.WRITE, COUNTER, 4)
                assert debugger.run(LONG).why is Why.WATCHPOINT
            before, deadline = vm.memory.read(COUNTER, 4), time.monotonic() + LONG
            while vm.memory.read(COUNTER, 4) == before:
                assert time.monotonic() < deadline, "it does not go on"


def test_points_that_cannot_be(guest: Debugger) -> None:
    for size, address in [(3, 0), (16, 0), (4, 2)]:
        with pytest.raises(ConfigError, match="cannot be watched"):
            guest.add(Kind.WRITE, address, size)
    with pytest.raises(ConfigError, match="64-bit"):
        guest.add(Kind.HARDWARE, 1 << 64)
    with pytest.raises(GuestAddressError):
        guest.add(Kind.SOFTWARE, 0xC0000000)
    delivery = of_host(guest.machine.system.kind)
    if delivery.execution:
        points = [guest.add(Kind.HARDWARE, number) for number in range(4)]
        with pytest.raises(ConfigError, match="all four"):
            guest.add(Kind.HARDWARE, 5)
        guest.remove(points[0])
    if not delivery.data:
        with pytest.raises(ConfigError, match="loads"):
            guest.add(Kind.ACCESS, 0x1000, 4)


def test_debug_registers() -> None:
    with machine("debugged") as vm, Debugger(vm) as debugger:
        write = debugger.add(Kind.WRITE, GUEST["result"], 4)
        execute = debugger.add(Kind.HARDWARE, GUEST["work"])
    registers = debug_registers([write, execute])
    assert registers[:4] == (GUEST["result"], GUEST["work"], 0, 0)
    assert registers[7] == 0x600 | 0b1010 | 0xD << 16


def test_the_documents_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first block of docs/research/breakpoints.md, with the kernel that is here, and its callback with that."""
    text = (Path(__file__).parents[2] / "docs" / "research" / "breakpoints.md").read_text()
    example, callbacks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    folder = Path(kernel.get("small").path).parent
    monkeypatch.chdir(folder)
    symbols = dict(line.split()[::-2] for line in (folder / "System.map").read_text().splitlines())
    address = int(symbols["start_kernel"], 16)
    example = re.sub(r"START_KERNEL = 0x\w+", f"START_KERNEL = {address}", example)
    exec(example, {})
    code, rip = capsys.readouterr().out.split()
    assert not code.startswith("cc")
    assert address < int(rip, 16) < address + 16
    with machine("debugged") as vm, Debugger(vm) as debugger:
        names = {"Kind": Kind, "debugger": debugger, "address": GUEST["work"]}
        exec(callbacks, names)
        assert names["calls"] == len(NUMBERS)
