"""A machine that a script drives: run it until something happens, look, change it, go on (docs/research/python.md).

with Machine(MachineConfig(kernel="vmlinux")) as vm:
    vm.run_until("login: ", timeout=60)
    print(hex(vm.regs.rip), vm.mem[vm.regs.rsp].u64)
"""

from __future__ import annotations

import time

from corral.core.exits import Outcome, Over
from corral.core.vcpu_thread import State
from corral.core.waiting import wait
from corral.debug.guest_registers import get_regs, get_sregs
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.native import Event
from corral.script import interrupts, jailed, live_devices
from corral.script.checkpointed import CheckpointedMachine
from corral.script.conversation import Conversation
from corral.script.goal import Goal, Reached
from corral.script.memory_access import Linear, Physical
from corral.script.register_access import Registers, require_vcpu
from corral.script.streams import Streams, session_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from corral.backends.channel import Channel, Identity
    from corral.config import MachineConfig
    from corral.core.shell import Shell
    from corral.core.vcpu_thread import VcpuThread
    from corral.debug.breakpoints import Point, Stop
    from corral.debug.debugger import Debugger
    from corral.debug.disassembly import Instruction
    from corral.native import CData
    from corral.observe.tally import TallyRow
    from corral.script.exit_hook import Exit
    from corral.snapshot.resumed import Resumed
    from corral.startup.undo import Undo
    from corral.symbols.table import Symbols

    Device = TypeVar("Device")

POLL = 0.01  # seconds between two looks at a condition


class ScriptedMachine(CheckpointedMachine):
    """`corral.Machine`. Methods are for one thread at a time; a device may call inject() on any.

    A guest that ends stops all its vCPUs, and everything can be looked at until close(). After that there are still
    `console.output`, `streams`, `outcome`, `symbols` and the last registers. `jail` and `allow`: see jailed.py.
    """

    def __init__(
        self,
        config: MachineConfig,
        shell: Shell | None = None,
        channel: Channel | None = None,
        saved: Resumed | None = None,
        *,
        identity: Identity | None = None,
        jail: bool | str = False,
        allow: Sequence[str] = (),
    ) -> None:
        self._jail = jailed.wanted(jail, allow)
        self._session = None if channel else session_of(config, identity)
        self.streams = self._session if isinstance(self._session, Streams) else None  # where it has pipes
        super().__init__(config, shell, channel or self._session, saved)

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        super()._build(config, undo)
        self.last_registers: list[tuple[CData, CData]] = []  # of each vCPU general and others, when it is closed
        self._begun = self._free = False  # `_free`: let run, whether or not it does
        self._debugger: Debugger | None = None
        self._symbols: Symbols | None = None
        self._looked_for_symbols = False
        self._hit = Event()
        undo.push(self._hit.close)
        undo.push(self._keep)
        self.console = Conversation(self, self._run_until_said)
        self.phys = Physical(self.memory)
        self.mem = self.mem_of(0)
        self.regs = self.regs_of(0)

    def _keep(self) -> None:
        """What stays readable after close()."""
        self.stop()
        self._drain_all()
        self.last_registers = [(get_regs(vcpu, self.memory), get_sregs(vcpu)) for vcpu in self.vcpus]
        if self._has_ended and self.outcome is None and not any(thread.failure for thread in self.threads):
            self._conclude(Over.ENDED)

    def _drain_all(self) -> None:
        while self.console.drain():
            pass
        if self._session:
            self._session.drain_all()

    # Running.

    def start(self) -> None:
        self.require_open()
        if self._jail and not self._begun:
            self._jail.enter(self.known_symbols)
        self._begun = self._free = True
        super().start()

    def resume(self) -> None:
        """Lets the guest run and returns; starts it if need be. Its console is not read meanwhile: it waits. At a
        breakpoint it stops; the next run_until() tells of it."""
        self.require_open()
        if self._debugger and not self._debugger.ready():
            return
        self._free = True
        if not self._begun:
            self.start()
        super().resume()

    def pause(self) -> None:
        self.require_open()
        self._free = False
        super().pause()
        if self._debugger:
            self._debugger.disarm()

    def snapshot(self, path: str, parent: str | None = None) -> int:
        """Saves the guest to a file for corral.restore(), or what differs from another, its `parent`; it runs on if it
        runs (docs/snapshot.md). Returns how many bytes of RAM and layers of disks are in it. Raises ConfigError for
        what cannot be saved, BootError for a parent that is none, GuestError, HostError."""
        from corral.snapshot import parents, resumed

        with parents.Base(path, parent, self.memory.size) as base:
            return self._while_paused(lambda go_on: resumed.save(self, path, base, None if self._jail else go_on))

    def fork(self, count: int = 1, name: str = "") -> list[ScriptedMachine]:
        """Machines that go on from where this one is, called `name-1` and so on. Raises as snapshot() and restore()."""
        from corral.script import forks

        return forks.made(self, lambda save: self._while_paused(lambda _: save()), ScriptedMachine, count, name)

    def _while_paused(self, save: Callable[[Callable[[], None] | None], int]) -> int:
        ran = self.running
        self.pause()
        if not self._begun or self._has_ended:
            raise ConfigError("only a guest that has started and has not ended can be saved")
        try:
            return save(self.resume if ran else None)
        finally:
            if ran and not self._free:
                self.resume()

    @property
    def running(self) -> bool:
        return (
            self._free
            and not self.closed
            and not (self._hooks and self._hooks.failures)
            and any(thread.state not in (State.STOPPED, State.FAILED) for thread in self.threads)
        )

    def run_until(
        self,
        what: str | bytes | re.Pattern[bytes] | int | None = None,
        timeout: float | None = None,
        *,
        at: str | int | None = None,
        exit: Callable[[Exit], object] | None = None,
        condition: Callable[[ScriptedMachine], object] | None = None,
    ) -> Reached:
        """Runs the guest until one of these is so, and pauses it.

        `what`: the console says this text, past what an earlier call has found; or a vCPU comes to this address. `at`:
        the same by a symbol of the kernel. `exit`: true of an exit of any vCPU; it is asked on that vCPU's thread for
        every exit, those that C finishes too. `condition`: true of the machine, which is paused and asked each 10 ms.
        A breakpoint() or watchpoint() ends it as well. `timeout` in seconds.

        Raises GuestTimeout; GuestError when the guest ends before; what a device, `exit`, `condition` or a callback
        raised. The guest is paused, or over, in any case.
        """
        asked = None if condition is None else lambda: condition(self)
        goal = Goal(self, what, at, exit, asked, points=bool(self._debugger and self._debugger.points))
        deadline = None if timeout is None else time.monotonic() + timeout
        self.pause()
        try:
            goal.set(self._hit)
            while True:
                if reached := goal.reached():
                    return reached
                self.raise_failure()
                if stop := self._stopped():
                    return Reached(stop=stop)
                if self._has_ended and not self.console.drain():
                    end = next((str(thread.end) for thread in self.threads if thread.end), "it was stopped")
                    raise GuestError(f"the guest ended before {goal.text} came: {end}; {self.console.last}")
                if deadline is not None and time.monotonic() >= deadline:
                    raise GuestTimeout(f"{goal.text} did not come within {timeout:g} s; {self.console.last}")
                if not self._free:
                    self.resume()
                self._serve(deadline, POLL if condition else None)
        finally:
            self.pause()
            self.console.drain()
            goal.clear()

    def _run_until_said(self, text: str | bytes | re.Pattern[bytes], timeout: float | None) -> re.Match[bytes]:
        match = self.run_until(text, timeout).match
        assert match
        return match

    def step(self, vcpu: int = 0, timeout: float | None = None) -> Stop:
        """One instruction of one vCPU, the others being stopped. A vCPU that halts may wait: raises GuestTimeout after
        `timeout` seconds."""
        from corral.debug.breakpoints import Why

        require_vcpu(vcpu, len(self.vcpus))
        self.pause()
        self.debugger.begin_step(vcpu)
        self.debugger.poll(timeout)
        stop = self.debugger.finish()
        self.raise_failure()
        self.console.drain()
        if stop.why is Why.TIMEOUT:
            raise GuestTimeout(f"the instruction at {self.regs_of(vcpu).rip:#x} was not over within {timeout:g} s")
        return stop

    def wait(self, timeout: float | None = None) -> Outcome:
        """Runs the guest to its end; breakpoints have their callbacks called, and stop nothing. Raises GuestTimeout,
        and what a device, a hook or a callback failed with."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.resume()
            while not self._has_ended:
                if deadline is not None and time.monotonic() >= deadline:
                    raise GuestTimeout(f"the guest did not end within {timeout:g} s; {self.console.last}")
                self._serve(deadline, None)
                self.raise_failure()
                self._stopped()
                if not self._free:
                    self.resume()
        finally:
            self.pause()
        self._drain_all()
        self.raise_failure()
        return self._conclude(Over.ENDED)

    def _serve(self, deadline: float | None, most: float | None) -> None:
        """Until there is output, an end, a hit of an exit hook or a breakpoint, or for `most` seconds."""
        limits = [] if most is None else [most]
        if deadline is not None:
            limits.append(max(0.0, deadline - time.monotonic()))
        watches = [self.serial.watch, self._ended.watch, self._hit.watch]
        if self._debugger:
            watches.append(self._debugger.event.watch)
        if self.console.offer():
            watches.append(self.serial.watch_room)
        if self._session:
            watches.append(self._session.watch)
            limits += [POLL] * self._session.offer()
        wait(min(limits, default=None), *watches)
        self.require_open()
        self.console.drain()
        if self._session:
            self._session.drain()

    def _stopped(self) -> Stop | None:
        """What a breakpoint or watchpoint has stopped the guest for, if its callback does not say to go on."""
        from corral.debug.breakpoints import Why

        if not self._debugger or not self._debugger.poll(0):
            return None
        stop = self._debugger.finish()
        self.raise_failure()
        if stop.why in (Why.ENDED, Why.TIMEOUT):
            return None
        if stop.point and stop.point.callback and stop.point.callback(stop) is not True:
            return None
        return stop

    @property
    def _has_ended(self) -> bool:
        return any(thread.end or thread.failure for thread in self.threads)

    def _vcpu_ended(self, thread: VcpuThread) -> None:
        for other in self.threads:
            other.request_pause()
        super()._vcpu_ended(thread)

    # Looking and changing.

    def regs_of(self, vcpu: int) -> Registers:
        """`regs` is that of vCPU 0. Raises ConfigError for a vCPU that there is not."""
        require_vcpu(vcpu, len(self.vcpus))
        return Registers(self, vcpu)

    def mem_of(self, vcpu: int) -> Linear:
        """Memory as this vCPU's page tables have it; `mem` is that of vCPU 0."""
        return Linear(self.memory, self.regs_of(vcpu))

    def disassemble(self, where: str | int | None = None, count: int | None = None, vcpu: int = 0) -> list[Instruction]:
        """The guest's code as it is in its memory: `count` instructions from there, or the function to its end, or
        some where no symbols tell that. Without a place: where this vCPU is. Raises ConfigError."""
        from corral.debug.disassembly import Listing

        regs, read = self.regs_of(vcpu), self.mem_of(vcpu).read_some
        place = regs.rip + (0 if regs.bits == 64 else regs.cs.base) if where is None else self._address(where)
        return Listing(read, regs.bits, self.known_symbols()).instructions(place, None, count)

    def stats(self) -> list[TallyRow]:
        """What was counted so far: exits, disks, console, KVM's statistics; the host's performance counters are in a
        `observe.tally.Tally` that is there all the while."""
        from corral.observe.tally import Tally

        with Tally(self) as tally:
            return tally.rows()

    def report(self, vcpu: int = 0) -> str:
        """All that can be said of the guest as it is, for people (docs/research/report.md)."""
        from corral.debug.report import full

        require_vcpu(vcpu, len(self.vcpus))
        self.pause()
        return full.of_paused(self, vcpu, self.console.output)

    def inject(self, *, vector: int | None = None, line: int | None = None, nmi: bool = False, vcpu: int = 0) -> None:
        """One interrupt: a `vector` (16 to 255) or an NMI to a vCPU's local APIC, or an edge on an interrupt `line`
        (0 to 23). A guest that has not enabled its APIC takes no vector. Raises ConfigError."""
        interrupts.inject(self, vector, line, nmi, vcpu)

    # Breakpoints. They are in the guest while run_until(), wait() or resume() let it run.

    @property
    def debugger(self) -> Debugger:
        """What breakpoints and steps are made with; there from its first use on."""
        self.require_open()
        if self._debugger is None:
            from corral.debug.debugger import Debugger

            self._debugger = Debugger(self)
            self._undo.push(self._debugger.detach)
        return self._debugger

    @property
    def symbols(self) -> Symbols:
        """Of the kernel (symbols/table.py). Raises ConfigError when it has none."""
        known = self.known_symbols()
        if known is None:
            raise ConfigError(f"{self.config.kernel!r} has no symbols, and no System.map beside it; give addresses")
        return known

    def known_symbols(self) -> Symbols | None:
        """None when the kernel has none."""
        if not self._looked_for_symbols:
            from corral.symbols.table import of_guest

            self._symbols, self._looked_for_symbols = of_guest(self.config.kernel), True
        return self._symbols

    def breakpoint(self, where: str | int, callback: Callable[[Stop], object] | None = None) -> Point:
        """At a linear address, or a symbol of the kernel. `callback` is called with the Stop, all vCPUs being paused;
        the guest goes on unless it returns True. Raises ConfigError."""
        from corral.debug.breakpoints import PointKind

        self.pause()
        # A debug register does not mind what the guest does to its memory until it comes there.
        kind = PointKind.HARDWARE if self.debugger.registers_left else PointKind.SOFTWARE
        return self.debugger.add(kind, self._address(where), 1, callback)

    def watchpoint(
        self, where: str | int, size: int, callback: Callable[[Stop], object] | None = None, loads: bool = False
    ) -> Point:
        """Stops behind a store to these 1, 2, 4 or 8 bytes, with `loads` behind a load too, as far as the host delivers
        them (docs/research/breakpoints.md). Raises ConfigError."""
        from corral.debug.breakpoints import PointKind

        self.pause()
        return self.debugger.add(PointKind.ACCESS if loads else PointKind.WRITE, self._address(where), size, callback)

    def remove(self, point: Point) -> None:
        """Takes a breakpoint or watchpoint away."""
        self.pause()
        self.debugger.remove(point)

    def _address(self, where: str | int) -> int:
        return where if isinstance(where, int) else self.symbols.address(where)

    # Devices.

    def mmio(self, where: range | int) -> Callable[[Device], Device]:
        """A decorator: this class, object or function answers these guest physical addresses (live_devices.py)."""
        self.require_open()
        return live_devices.decorator(self.mmio_bus, where, self._jail)

    def pio(self, where: range | int) -> Callable[[Device], Device]:
        """The same for I/O ports."""
        self.require_open()
        return live_devices.decorator(self.ports, where, self._jail)
