"""Tools on one guest at the same time: whichever is attached or closed first, the other does its work."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import Machine, MachineConfig
from corral.core.exits import Cause
from corral.core.hooks import EVERY_REASON, Hook
from corral.core.vcpu_thread import State, VcpuThread
from corral.debug.breakpoints import Point, PointKind, Why
from corral.debug.debugger import Debugger
from corral.debug.gdb.server import GdbServer, listen
from corral.errors import ConfigError
from corral.native import lib
from corral.observe.exit_trace import ExitTrace
from corral.observe.profiler import Profiler
from corral.observe.tally import Tally
from corral.script.exit_hook import Exit
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

ROUNDS = 1 << 30
GUEST = labels(tiny_guest("debugged", ROUNDS=ROUNDS))  # in each round it calls `work`, which writes to port 0x80
PORT = 0x80
LONG = 300.0  # seconds: nothing takes so long unless it hangs


def machine() -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest("debugged", ROUNDS=ROUNDS)), memory=16 << 20))


def end(vm: Machine) -> None:
    """Has the guest go its last round, to a proper end: nothing of a tool is left in it."""
    vm.pause()
    vm.regs.rbx = 1
    assert vm.wait(LONG).cause is Cause.RESET


def is_port_write(exit: Exit) -> bool:
    return exit.address == PORT


class PortWrites(Hook):
    """Counts the guest's own port writes."""

    name = "port writes"
    reasons = EVERY_REASON

    def __init__(self) -> None:
        self.count = 0

    def see(self, thread: VcpuThread) -> None:
        run = thread.vcpu.run_page
        self.count += run.exit_reason == lib.KVM_EXIT_IO and run.io.port == PORT


class Tool:
    """One of the tools: it is attached, shows more than once that it works, and is closed."""

    def __init__(self, vm: Machine, path: Path) -> None:
        self.vm, self.path = vm, path

    def attach(self) -> None: ...

    def work(self) -> None:
        """Lets the guest go on, and asserts that the tool sees what it does."""
        raise NotImplementedError

    def close(self) -> None: ...

    def write_once(self) -> None:
        """Lets the guest go on to its next write to the port."""
        assert self.vm.run_until(exit=is_port_write, timeout=LONG).exit is not None


class Trace(Tool):
    def attach(self) -> None:
        self.trace = ExitTrace(self.vm)

    def work(self) -> None:
        self.trace.flush()
        list(self.trace)
        self.write_once()
        self.trace.flush()
        assert [exit.address for exit in self.trace].count(PORT) == 1

    def close(self) -> None:
        self.trace.close()


class Breakpoint(Tool):
    """A Debugger with a breakpoint."""

    def attach(self) -> None:
        self.debugger = Debugger(self.vm)
        self.debugger.add(PointKind.SOFTWARE, GUEST["work"])

    def work(self) -> None:
        stop = self.debugger.run(LONG)
        assert (stop.why, stop.rip) == (Why.BREAKPOINT, GUEST["work"])
        assert self.debugger.step().rip == GUEST["work"] + 1

    def close(self) -> None:
        self.debugger.detach()


class OwnHook(Tool):
    def attach(self) -> None:
        self.hook = PortWrites()
        self.vm.hooks.attach(self.hook)

    def work(self) -> None:
        before = self.hook.count
        self.write_once()
        assert self.hook.count == before + 1

    def close(self) -> None:
        self.vm.hooks.detach(self.hook)


class Script(Tool):
    """A script that waits for an exit, with a device and text of its own."""

    def attach(self) -> None:
        self.vm.pio(0x5670)(lambda offset, size, value: 0)

    def work(self) -> None:
        asked: list[int] = []
        found = self.vm.run_until(exit=is_port_write, condition=lambda vm: asked.append(vm.regs.rip), timeout=LONG)
        assert found.exit is not None
        assert asked


class Gdb(Tool):
    """A gdb that is connected, and speaks its protocol."""

    def attach(self) -> None:
        self.listener = listen(str(self.path / "gdb"))
        self.server = GdbServer(self.vm, self.listener).__enter__()
        self.gdb = socket.socket(socket.AF_UNIX)
        self.gdb.settimeout(LONG)
        self.gdb.connect(str(self.path / "gdb"))
        assert self.ask(f"Z0,{GUEST['work']:x},1") == "OK"

    def ask(self, command: str) -> str:
        self.gdb.sendall(f"${command}#{sum(command.encode()) & 0xFF:02x}".encode())
        answer = b""
        while not answer.rpartition(b"#")[2][1:]:
            answer += self.gdb.recv(4096)
        self.gdb.sendall(b"+")
        return answer.partition(b"$")[2].partition(b"#")[0].decode()

    def work(self) -> None:
        assert self.ask("c").startswith("T05thread:1;swbreak:;")
        assert int.from_bytes(bytes.fromhex(self.ask("p10")), "little") == GUEST["work"]  # rip

    def close(self) -> None:
        assert self.ask("?").startswith("T05")
        assert self.ask(f"z0,{GUEST['work']:x},1") == "OK"
        with self.gdb, self.listener:
            self.server.__exit__()


class Stat(Tool):
    def attach(self) -> None:
        self.tally = Tally(self.vm).__enter__()

    def writes(self) -> int:
        return next((row.total for row in self.tally.rows() if (row.group, row.name) == ("exits", "IO")), 0)

    def work(self) -> None:
        before = self.writes()
        self.write_once()
        assert self.writes() > before

    def close(self) -> None:
        self.tally.__exit__()


class Profile(Tool):
    def attach(self) -> None:
        self.profiler = Profiler(self.vm, 500).__enter__()

    def work(self) -> None:
        self.write_once()

    def close(self) -> None:
        self.profiler.__exit__()


TOOLS = (Trace, Breakpoint, OwnHook, Script, Gdb, Stat, Profile)
ONE_AT_A_TIME = {Breakpoint, Gdb}  # both need a debugger


@pytest.mark.parametrize("first_closed", [0, 1])
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(TOOLS, 2)))
def test_two_tools(first: type[Tool], second: type[Tool], first_closed: int, tmp_path: Path) -> None:
    with machine() as vm:
        tools = [first(vm, tmp_path), second(vm, tmp_path)]
        tools[0].attach()
        if {first, second} == ONE_AT_A_TIME:
            with pytest.raises(ConfigError, match="has a debugger already"):
                tools[1].attach()
            tools[0].work()
            tools[0].close()
            return
        tools[1].attach()
        tools[0].work()
        tools[1].work()
        tools[first_closed].close()
        vm.pause()  # which a gdb that leaves does not
        left = tools[1 - first_closed]
        left.work()
        left.close()
        assert vm.hooks.attached == ()
        end(vm)


def test_a_breakpoint_within_a_condition_of_an_exit_that_is_waited_for() -> None:
    """Both are there together, and the exit hook goes first."""
    with machine() as vm:
        points: list[Point] = []

        def condition(vm: Machine) -> bool:
            if not points:
                points.append(vm.breakpoint(GUEST["work"]))
            return False

        found = vm.run_until(exit=lambda exit: exit.address == PORT and bool(points), condition=condition, timeout=LONG)
        assert found.stop is not None or found.exit is not None
        assert [hook.name for hook in vm.hooks.attached] == ["debugger"]
        for _ in range(3):
            stop = vm.run_until(timeout=LONG).stop
            assert stop is not None
            assert stop.point is points[0]
        vm.remove(points[0])
        end(vm)


class Failing(Hook):
    name = "failing"
    reasons = EVERY_REASON

    def see(self, thread: VcpuThread) -> None:
        raise ZeroDivisionError("a hook with a mistake")


@pytest.mark.parametrize("how", ["run_until", "wait", "run", "debugger", "step"])
def test_a_hook_that_fails_pauses_the_guest_and_whoever_runs_it_is_told(how: str) -> None:
    with machine() as vm:
        other = OwnHook(vm, Path())
        other.attach()
        if how == "step":
            vm.run_until(GUEST["work"] + 12, timeout=LONG)  # its OUT
        debugger = Debugger(vm) if how == "debugger" else None
        vm.hooks.attach(Failing())
        runs: dict[str, Callable[[], object]] = {
            "run_until": lambda: vm.run_until("never", timeout=LONG),
            "wait": lambda: vm.wait(LONG),
            "run": lambda: vm.run(timeout=LONG),
            "debugger": lambda: debugger and debugger.run(LONG),
            "step": lambda: vm.step(timeout=LONG),
        }
        with pytest.raises(ZeroDivisionError) as caught:
            runs[how]()
        (note,) = caught.value.__notes__
        assert note.startswith("the hook 'failing' failed on vCPU 0 (ZeroDivisionError: a hook with a mistake)")
        if debugger:
            debugger.detach()
        assert vm.threads[0].state is State.PAUSED
        assert other.hook.count >= 1, "the exit came to the other hook too"
        other.work()
        end(vm)


def test_a_hook_that_fails_while_nobody_waits_is_told_of_by_the_next_run() -> None:
    with machine() as vm:
        vm.resume()
        assert vm.running
        vm.hooks.attach(Failing())
        deadline = time.monotonic() + LONG
        while vm.running:
            assert time.monotonic() < deadline, "the guest is not paused"
            time.sleep(0.01)
        with pytest.raises(ZeroDivisionError, match="a hook with a mistake"):
            vm.wait(LONG)
        end(vm)


def test_a_debugger_that_fails_leaves_the_guest_as_it_was_and_can_be_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a debugger with a mistake")

    with machine() as vm:
        point = vm.breakpoint(GUEST["work"])
        with monkeypatch.context() as patched:
            patched.setattr(vm.debugger, "report", fail)
            with pytest.raises(ZeroDivisionError, match="a debugger with a mistake"):
                vm.run_until(timeout=LONG)
        assert vm.threads[0].state is State.PAUSED
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        assert stop.point is point
        vm.remove(point)
        end(vm)


@pytest.mark.parametrize("cpus", [1, 2])
def test_attached_and_detached_while_the_guest_runs(cpus: int) -> None:
    """No exit is lost to Python that C should have finished, nor finished twice: the guest says the same each time."""
    guest = tiny_guest("port_writes", COUNT=20_000, PORT=0x3F8)
    with Machine(MachineConfig(kernel=str(guest), memory=16 << 20, cpus=cpus)) as vm:
        vm.resume()
        changes = 0
        while vm.running and not vm.threads[0].end:
            hook = OwnHook(vm, Path())
            hook.attach()
            hook.close()
            changes += 1
            vm.console.drain()
        assert changes > 10
        vm.wait(LONG)
        assert vm.console.output == b"x" * 20_000
        assert vm.ports.unclaimed == 0


def test_a_second_trace_or_profiler_is_refused() -> None:
    with machine() as vm:
        with ExitTrace(vm), pytest.raises(ConfigError, match="has a trace already"):
            ExitTrace(vm)
        with Profiler(vm), pytest.raises(ConfigError, match="has a profiler already"):
            Profiler(vm)
        with ExitTrace(vm), Profiler(vm):
            vm.run_until(exit=is_port_write, timeout=LONG)
        end(vm)
