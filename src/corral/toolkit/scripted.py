"""A machine that a script drives: run it until something happens, look into it, change it, go on.

    with Machine(MachineConfig(kernel="vmlinux")) as vm:
        vm.run_until("login: ", timeout=60)
        print(hex(vm.regs.rip), vm.mem[vm.regs.rsp].u64)
        vm.console.send("root\n")

docs/research/python.md has the whole of it.
"""

from __future__ import annotations

import os
import re
import select
import time

from corral.console import Over
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.machine import Machine, Outcome
from corral.record import record
from corral.toolkit import interrupts, live_devices
from corral.toolkit.conversation import Conversation
from corral.toolkit.exit_hook import Exit, ExitHook
from corral.toolkit.memory_access import Linear, Physical
from corral.toolkit.register_access import Registers
from corral.vcpu import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from corral.config import MachineConfig
    from corral.toolkit.breakpoints import Point, Stop
    from corral.toolkit.debugger import Debugger
    from corral.toolkit.disassembly import Instruction
    from corral.toolkit.symbols import Symbols
    from corral.toolkit.tally import Row
    from corral.undo import Undo
    from corral.vcpu import VcpuThread

    Device = TypeVar("Device")

POLL = 0.01  # seconds between two looks at a condition


@record(frozen=True)
class Reached:
    """What run_until() stopped for: one of these. `exit` has been handled, and its instruction is over; `stop` is that
    of a breakpoint or watchpoint."""

    match: re.Match[bytes] | None = None
    exit: Exit | None = None
    condition: bool = False
    stop: Stop | None = None


class ScriptedMachine(Machine):
    """`corral.Machine`. Methods are for one thread at a time; a device may call inject() on any.

    A guest that ends stops all its vCPUs, and everything can be looked at until close().
    """

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        super()._build(config, undo)
        self._begun = self._free = False  # `_free`: let run, whether or not it does
        self._debugger: Debugger | None = None
        self._symbols: Symbols | None = None
        self._looked_for_symbols = False
        self._hit = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        undo.push(os.close, self._hit)
        undo.push(self.stop)  # before that descriptor is closed
        self.console = Conversation(self)
        self.phys = Physical(self.memory)
        self.mem = self.mem_of(0)
        self.regs = self.regs_of(0)

    # Running.

    def start(self) -> None:
        self._begun = self._free = True
        super().start()

    def resume(self) -> None:
        """Lets the guest run and returns; starts it if need be. Nobody reads its console meanwhile: it waits. At a
        breakpoint it stops; the next run_until() tells of it."""
        if self._debugger and not self._debugger.ready():
            return
        self._free = True
        if not self._begun:
            self.start()
        super().resume()

    def pause(self) -> None:
        self._free = False
        super().pause()
        if self._debugger:
            self._debugger.disarm()

    @property
    def running(self) -> bool:
        return self._free and any(thread.state not in (State.STOPPED, State.FAILED) for thread in self.threads)

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
        text, at = (None, what) if isinstance(what, int) else (what, at)
        goals = {repr(text): text, f"the way to {_place(at)}": at, "the exit": exit, "the condition": condition}
        wanted = " or ".join(name for name, given in goals.items() if given is not None)
        if not wanted and not (self._debugger and self._debugger.points):
            raise ConfigError("run_until() needs a text, a place, an exit or a condition; wait() runs to the end")
        wanted = wanted or "a breakpoint"
        pattern = None if text is None else _pattern(text)
        deadline = None if timeout is None else time.monotonic() + timeout
        self.pause()
        here = None if at is None else self.breakpoint(at)
        hook = None if exit is None else ExitHook(self, exit, self._hit)
        try:
            while True:
                if pattern and (match := self.console.find(pattern)):
                    return Reached(match=match)
                if condition:
                    self.pause()
                    if condition(self):
                        return Reached(condition=True)
                if hook and hook.found:
                    return Reached(exit=hook.found)
                if stop := self._stopped():
                    return Reached(stop=stop)
                self._raise_failure()
                if self._over and not self.console.drain():
                    raise GuestError(f"the guest ended before {wanted} came: {self._end()}; {self.console.last}")
                if deadline is not None and time.monotonic() >= deadline:
                    raise GuestTimeout(f"{wanted} did not come within {timeout:g} s; {self.console.last}")
                if not self._free:
                    self.resume()
                self._serve(deadline, POLL if condition else None)
        finally:
            self.pause()
            self.console.drain()
            if hook:
                hook.close()
            if here:
                self.remove(here)

    def step(self, vcpu: int = 0, timeout: float | None = None) -> Stop:
        """One instruction of one vCPU, the others being stopped. A vCPU that halts may wait: raises GuestTimeout after
        `timeout` seconds."""
        from corral.toolkit.breakpoints import Why

        self.pause()
        self.debugger.begin_step(vcpu)
        self.debugger.poll(timeout)
        stop = self.debugger.finish()
        self.console.drain()
        if stop.why is Why.TIMEOUT:
            raise GuestTimeout(f"the instruction at {self.regs_of(vcpu).rip:#x} was not over within {timeout:g} s")
        return stop

    def wait(self, timeout: float | None = None) -> Outcome:
        """Runs the guest to its end; breakpoints have their callbacks called, and stop nothing. Raises GuestTimeout,
        and what a device or a callback failed with."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self.resume()
        while not self._over:
            if deadline is not None and time.monotonic() >= deadline:
                self.pause()
                raise GuestTimeout(f"the guest did not end within {timeout:g} s; {self.console.last}")
            self._serve(deadline, None)
            self._stopped()
            if not self._free:
                self.resume()
        self.pause()
        while self.console.drain():
            pass
        self._raise_failure()
        ended = next((thread for thread in self.threads if thread.end), None)
        if ended is None or ended.end is None:
            return Outcome(Over.QUIT, status=self.status_port.status)
        return Outcome(Over.ENDED, ended.end.cause, ended.end.detail, ended.index, self.status_port.status)

    def _serve(self, deadline: float | None, most: float | None) -> None:
        """Until there is output, an end, a hit of an exit hook or a breakpoint, or for `most` seconds."""
        limits = [] if most is None else [most]
        if deadline is not None:
            limits.append(max(0.0, deadline - time.monotonic()))
        if self.console.offer():
            limits.append(POLL)
        poll = select.poll()
        for descriptor in (self.serial.fileno(), self._ended, self._hit):
            poll.register(descriptor, select.POLLIN)
        if self._debugger:
            poll.register(self._debugger, select.POLLIN)
        poll.poll(min(limits) * 1000 if limits else None)
        self.console.drain()

    def _stopped(self) -> Stop | None:
        """What a breakpoint or watchpoint has stopped the guest for, if its callback does not say to go on."""
        from corral.toolkit.breakpoints import Why

        if not self._debugger or not self._debugger.poll(0):
            return None
        stop = self._debugger.finish()
        if stop.why in (Why.ENDED, Why.TIMEOUT):
            return None
        if stop.point and stop.point.callback and stop.point.callback(stop) is not True:
            return None
        return stop

    @property
    def _over(self) -> bool:
        return any(thread.end or thread.failure for thread in self.threads)

    def _end(self) -> str:
        return next((str(thread.end) for thread in self.threads if thread.end), "it was stopped")

    def _raise_failure(self) -> None:
        failure = next((thread.failure for thread in self.threads if thread.failure), None)
        if failure:
            raise failure

    def _vcpu_ended(self, thread: VcpuThread) -> None:
        for other in self.threads:
            other.request_pause()
        super()._vcpu_ended(thread)

    # Looking and changing.

    def regs_of(self, vcpu: int) -> Registers:
        """`regs` is that of vCPU 0."""
        return Registers(self.threads[vcpu], lambda: self._free)

    def mem_of(self, vcpu: int) -> Linear:
        """Memory as this vCPU's page tables have it; `mem` is that of vCPU 0."""
        return Linear(self.memory, self.regs_of(vcpu))

    def disassemble(self, where: str | int | None = None, count: int | None = None, vcpu: int = 0) -> list[Instruction]:
        """The guest's code as it is in its memory: `count` instructions from there, or the function to its end, or
        some where no symbols tell that. Without a place: where this vCPU is. Raises ConfigError."""
        from corral.toolkit.disassembly import Listing

        regs = self.regs_of(vcpu)
        here = regs.rip + (0 if regs.bits == 64 else regs.cs.base)
        listing = Listing(self.mem_of(vcpu).read_some, regs.bits, self.known_symbols())
        return listing.instructions(here if where is None else self._address(where), None, count)

    def stats(self) -> list[Row]:
        """What was counted so far: exits, disks, console, KVM's statistics; the host's performance counters are in a
        `toolkit.tally.Tally` that is there all the while."""
        from corral.toolkit.tally import Tally

        with Tally(self) as tally:
            return tally.rows()

    def report(self, vcpu: int = 0) -> str:
        """All that can be said of the guest as it is, for people (docs/research/report.md)."""
        from corral.toolkit.report import full

        self.pause()
        ended = next((thread for thread in self.threads if thread.end), None)
        if ended is None or ended.end is None:
            return full.text(self, f"a guest that is paused, vCPU {vcpu}", None, vcpu, self.console.output)
        return full.text(self, f"the guest ended: {ended.end}", ended.end.cause, ended.index, self.console.output)

    def inject(self, *, vector: int | None = None, line: int | None = None, nmi: bool = False, vcpu: int = 0) -> None:
        """One interrupt: a `vector` (16 to 255) or an NMI to a vCPU's local APIC, or an edge on an interrupt `line`
        (0 to 23). A guest that has not enabled its APIC takes no vector. Raises ConfigError."""
        if (vector is not None) + (line is not None) + nmi != 1:
            raise ConfigError("inject() takes one of vector=, line= and nmi=True")
        if line is not None:
            interrupts.edge(self.vm, line)
        else:
            interrupts.message(self.vm, len(self.vcpus), vcpu, vector)

    # Breakpoints. They are in the guest while run_until(), wait() or resume() let it run.

    @property
    def debugger(self) -> Debugger:
        """What breakpoints and steps are made with; there from its first use on."""
        if self._debugger is None:
            from corral.toolkit.debugger import Debugger

            self._debugger = Debugger(self)
            self._undo.push(self._debugger.detach)
        return self._debugger

    @property
    def symbols(self) -> Symbols:
        """Of the kernel (symbols.py). Raises ConfigError when it has none."""
        known = self.known_symbols()
        if known is None:
            raise ConfigError(f"{self.config.kernel!r} has no symbols, and no System.map beside it; give addresses")
        return known

    def known_symbols(self) -> Symbols | None:
        """None when the kernel has none."""
        if not self._looked_for_symbols:
            from corral.toolkit.symbols import of_kernel

            self._symbols, self._looked_for_symbols = of_kernel(self.config.kernel), True
        return self._symbols

    def breakpoint(self, where: str | int, callback: Callable[[Stop], object] | None = None) -> Point:
        """At a linear address, or a symbol of the kernel. `callback` is called with the Stop, all vCPUs being paused;
        the guest goes on unless it returns True. Raises ConfigError."""
        from corral.toolkit.breakpoints import Kind

        self.pause()
        # A debug register does not mind what the guest does to its memory until it comes there.
        kind = Kind.HARDWARE if self.debugger.registers_left else Kind.SOFTWARE
        return self.debugger.add(kind, self._address(where), 1, callback)

    def watchpoint(
        self, where: str | int, size: int, callback: Callable[[Stop], object] | None = None, loads: bool = False
    ) -> Point:
        """Stops behind a store to these 1, 2, 4 or 8 bytes, with `loads` behind a load too, as far as the host delivers
        them (docs/research/breakpoints.md). Raises ConfigError."""
        from corral.toolkit.breakpoints import Kind

        self.pause()
        return self.debugger.add(Kind.ACCESS if loads else Kind.WRITE, self._address(where), size, callback)

    def remove(self, point: Point) -> None:
        """Takes a breakpoint or watchpoint away."""
        self.pause()
        self.debugger.remove(point)

    def _address(self, where: str | int) -> int:
        return where if isinstance(where, int) else self.symbols.address(where)

    # Devices.

    def mmio(self, where: range | int) -> Callable[[Device], Device]:
        """A decorator: this class, object or function answers these guest physical addresses (live_devices.py)."""
        return live_devices.decorator(self.mmio_bus, where, live_devices.mmio_taken(self))

    def pio(self, where: range | int) -> Callable[[Device], Device]:
        """The same for I/O ports."""
        return live_devices.decorator(self.ports, where, live_devices.pio_taken())


def _pattern(text: str | bytes | re.Pattern[bytes]) -> re.Pattern[bytes]:
    if isinstance(text, re.Pattern):
        return text
    return re.compile(re.escape(text.encode() if isinstance(text, str) else text))


def _place(at: str | int | None) -> str:
    return hex(at) if isinstance(at, int) else str(at)
