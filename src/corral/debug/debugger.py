"""Breakpoints, watchpoints and steps over all vCPUs of a machine.

    with Machine(config) as machine, Debugger(machine) as debugger:
        debugger.add(Kind.HARDWARE, 0xffffffff81000000)
        stop = debugger.run(timeout=10)
        print(hex(stop.rip), debugger.read(stop.rip, 16))
        debugger.step(stop.vcpu)

When one vCPU stops all do. Methods are for one thread at a time, except interrupt(). docs/research/breakpoints.md
"""

from __future__ import annotations

import os
import time

from corral.arch.x86_64.page_walk import translate
from corral.backends.console import Console
from corral.core.waiting import wait
from corral.debug import trap_step
from corral.debug.breakpoints import DEBUG_REGISTERS, Point, PointKind, Stop, Why, debug_registers
from corral.debug.debugged_vcpu import ENABLE, TRAPS, DebuggedVcpu, DebuggerHook
from corral.debug.host_debugging import delivers_points
from corral.debug.program_code import is_programs
from corral.debug.traps import Traps
from corral.debug.watched_pages import WatchedPages
from corral.errors import ClosedError, ConfigError
from corral.kvm.system import Kind as KvmKind
from corral.native import Event, lib
from corral.startup.threads import allocate_lock
from corral.symbols.table import KERNEL_MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.kvm.vcpu import Vcpu
    from corral.machine import Machine

_POINTS = lib.KVM_GUESTDBG_USE_SW_BP | lib.KVM_GUESTDBG_USE_HW_BP
_PAGE = 4096


class GuestAddressError(ConfigError):
    """A linear address that the guest has not mapped to its RAM."""


class Debugger:
    """Attaches to a machine that was not started, or runs; pauses it. close() detaches and lets it run on.

    Raises HostError when this KVM has no guest debugging, ConfigError when the machine has another debugger.
    """

    def __init__(self, machine: Machine) -> None:
        if any(isinstance(hook, DebuggerHook) for hook in machine.hooks.attached):
            raise ConfigError("this machine has a debugger already, with the debug registers; close that one first")
        self.machine = machine
        self.points: list[Point] = []
        self.has_run = machine.started
        self.event = Event("this debugger")  # signalled when something stopped the guest
        machine.waiters.append(self.event)
        self._lock = allocate_lock()
        self._stops: list[Stop] = []
        kind = machine.system.kind
        self._delivered = delivers_points(kind)
        self.traps = Traps(machine.memory, not self._delivered, kind is KvmKind.PAGETABLE)
        self.pages = WatchedPages(machine)
        supported = machine.system.capability("SET_GUEST_DEBUG2")
        self._without_interrupts = int(supported & lib.KVM_GUESTDBG_BLOCKIRQ)
        machine.pause()
        self._sides = [DebuggedVcpu(self, thread) for thread in machine.threads]
        self.hook = DebuggerHook(machine.hooks, self._sides)
        self.hook.want(0)

    def __repr__(self) -> str:
        return f"<Debugger of {self.machine!r}, {len(self.points)} points>"

    def close(self) -> None:
        """Does nothing the second time."""
        self.detach()
        if self.machine.started and not self.machine.closed:
            self.machine.resume()

    def detach(self) -> None:
        """close() of a machine that shall stay paused, or is about to be closed."""
        if self.event.closed:
            return
        try:
            for side in self._sides:
                side.thread.pause()
            self.disarm()
            self.pages.watch(())
        except ClosedError:  # the machine, before this: there is nothing to take points out of
            pass
        self.points.clear()
        self.hook.close()
        self.machine.waiters.remove(self.event)
        self.event.close()

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Points. The guest is stopped.

    def add(
        self, kind: PointKind, address: int, size: int = 1, callback: Callable[[Stop], object] | None = None
    ) -> Point:
        """Raises ConfigError for what cannot be: a fifth debug register, memory that is not there."""
        point = Point(kind, address, size, callback)
        if kind.executes and not self._delivered and self._is_programs(address):
            raise ConfigError(f"{address:#x} is in a program; with this host's KVM a guest stops in its kernel alone")
        if kind is PointKind.SOFTWARE:
            point.gpa = self.locate(address)
        elif kind.executes or self._delivered:
            if not self.registers_left:
                raise ConfigError("all four debug registers are in use; remove a point, or take a software breakpoint")
        elif kind is PointKind.ACCESS:
            raise ConfigError("this host's KVM does not tell of loads; watch for writes")
        else:
            self.pages.require(address, len(self._watched()))
            point.gpa = self.locate(address)
        self.points.append(point)
        return point

    def remove(self, point: Point) -> None:
        self.points.remove(point)

    # Running.

    def run(self, timeout: float | None = None, console: Console | None = None) -> Stop:
        """Lets all vCPUs run until something stops them; then calls that point's callback, and goes on without it
        returning True. `timeout` in seconds; with a console that is served meanwhile.

        What a callback raises comes out of here; the guest is stopped and can be looked at.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.go()
            stop = self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()), console)
            if stop.point is None or stop.point.callback is None or stop.point.callback(stop) is True:
                return stop

    def go(self) -> None:
        """Begins to run; wait() ends it."""
        if self.ready():
            self._start()
            self.machine.resume()

    def ready(self) -> bool:
        """Puts the points in, for a caller that lets the machine run itself and calls finish(). False: there is a stop
        to be told of first."""
        if self._has_unreported_stop or any(thread.end for thread in self.machine.threads):
            return False
        for side in self._sides:
            if side.stopped_at is not None and side.stopped_at == side.rip():
                self._step_over(side)  # over the breakpoint that it is at
                if self._has_unreported_stop:
                    return False
        self._arm()
        self.has_run = True
        return True

    def wait(self, timeout: float | None = None, console: Console | None = None) -> Stop:
        """Waits for a stop and stops all. Raises what a device, the VMM or a hook failed with."""
        if not self._stops and (over := next((thread for thread in self.machine.threads if thread.end), None)):
            return Stop(Why.ENDED, over.index, self.rip(over.index))
        event = self.event.watch()
        try:
            (console or Console()).serve(self.machine.serial, event, timeout)
        finally:
            os.close(event)
        stop = self.finish()
        self.machine.raise_failure()
        return stop

    def poll(self, timeout: float | None) -> bool:
        """Whether something stopped the guest, within `timeout` seconds. For one that does not serve the console."""
        return wait(timeout, self.event.watch) or any(t.end for t in self.machine.threads)

    def finish(self) -> Stop:
        """Stops all, after go() or begin_step(), and tells what stopped them."""
        self.pause()
        return self._take()

    def step(self, vcpu: int = 0, timeout: float | None = None) -> Stop:
        """One instruction of one vCPU, the others being stopped; no interrupt is taken meanwhile where KVM can do
        that. A HLT may wait: hence `timeout`, in seconds."""
        self.begin_step(vcpu)
        return self.wait(timeout)

    def begin_step(self, vcpu: int) -> None:
        """step() that finish() ends."""
        if self._stops:
            return  # that is told first
        side = self._sides[vcpu]
        step = trap_step.plan(side.vcpu, self.machine.memory)
        if step is None:
            side.begin_step(ENABLE | lib.KVM_GUESTDBG_SINGLESTEP | self._without_interrupts)
        elif not step.places:
            self.report(Stop(Why.STEP, vcpu))
            return
        else:
            for gpa in step.places:
                self.traps.put(gpa)
            side.begin_step_to_trap(ENABLE | (0 if step.interrupted else self._without_interrupts))
        self._start()
        side.thread.resume()

    def interrupt(self) -> None:
        """Makes run(), wait() or step() return soon, from any thread."""
        self.report(Stop(Why.PAUSE))

    def pause(self) -> None:
        """Returns when all vCPUs are stopped and memory is as the guest knows it."""
        self.machine.pause()
        self.disarm()

    # Looking. The guest is stopped.

    def rip(self, vcpu: int = 0) -> int:
        """Linear: with the base of CS."""
        return self._sides[vcpu].rip()

    def read(self, address: int, length: int, vcpu: int = 0) -> bytes:
        """Memory by linear address, by the page tables of a vCPU. Raises GuestAddressError."""
        return b"".join(self.machine.memory.read(gpa, size) for gpa, size in self._pieces(address, length, vcpu))

    def write(self, address: int, data: bytes, vcpu: int = 0) -> None:
        """Raises GuestAddressError, and then has written nothing."""
        for gpa, size in list(self._pieces(address, len(data), vcpu)):
            self.machine.memory.write(gpa, data[:size])
            data = data[size:]

    def locate(self, address: int, vcpu: int = 0) -> int:
        """The guest physical address. Raises GuestAddressError.

        Before a guest has run, an address of Linux's image is where that is loaded: its page tables come later.
        """
        gpa = self.find(address, self.machine.vcpus[vcpu])
        if gpa is None:
            raise GuestAddressError(f"{address:#x} is not mapped to the guest's RAM")
        return gpa

    def find(self, address: int, vcpu: Vcpu) -> int | None:
        """The same, None where there is none."""
        gpa = translate(self.machine.memory, vcpu.get_sregs(), address)
        if gpa is None and not self.has_run and KERNEL_MAP <= address < KERNEL_MAP + self.machine.memory.low_end:
            gpa = address - KERNEL_MAP
        return gpa

    def _is_programs(self, address: int) -> bool:
        return is_programs(self.machine.vcpus[0], self.machine.memory, address)

    def _pieces(self, address: int, length: int, vcpu: int) -> list[tuple[int, int]]:
        pieces = []
        while length > 0:
            size = min(length, _PAGE - address % _PAGE)
            pieces.append((self.locate(address, vcpu), size))
            address, length = address + size, length - size
        return pieces

    # How it is done.

    def report(self, stop: Stop) -> None:
        """On any thread: stops all."""
        with self._lock:
            # A second breakpoint is met again when its vCPU goes on.
            if not self._stops or stop.why is not Why.BREAKPOINT:
                self._stops.append(stop)
            elif stop.why is Why.BREAKPOINT:
                self._sides[stop.vcpu].stopped_at = None
        for thread in self.machine.threads:
            thread.request_pause()
        self.event.signal()

    def point_at(self, address: int) -> Point | None:
        return next((p for p in self.points if p.kind.executes and p.address == address), None)

    def in_register(self, dr6: int) -> Point | None:
        points = self._in_registers()
        return next((point for slot, point in enumerate(points) if dr6 >> slot & 1), None)

    def stored_to(self, gpa: int, size: int) -> Point | None:
        """The point that watches one of these bytes by its page."""
        return next((p for at, p in self._watched() if at < gpa + size and gpa < at + p.size), None)

    def control(self) -> int:
        """KVM_GUESTDBG_ flags while running."""
        if self._delivered:
            return int(ENABLE | _POINTS) if self.points else 0
        return int(ENABLE | lib.KVM_GUESTDBG_USE_HW_BP) if self._in_registers() else 0

    def registers(self) -> tuple[int, ...]:
        return debug_registers(self._in_registers())

    @property
    def registers_left(self) -> int:
        """How many more debug registers there are for points."""
        return DEBUG_REGISTERS - len(self._in_registers())

    def _in_registers(self) -> list[Point]:
        return [p for p in self.points if p.kind is not PointKind.SOFTWARE and p.gpa is None]

    def _watched(self) -> list[tuple[int, Point]]:
        return [(p.gpa, p) for p in self.points if p.gpa is not None and not p.kind.executes]

    def _take(self) -> Stop:
        with self._lock:
            stop = self._stops.pop(0) if self._stops else Stop(Why.PAUSE if self.hook.hooks.failures else Why.TIMEOUT)
            self._clear_event()
        failure = next((thread.failure for thread in self.machine.threads if thread.failure), None)
        if failure:
            raise failure
        if stop.point:
            stop.point.hits += 1
        if stop.why is Why.STEP:  # an instruction that left the guest was completed after it was told of
            return Stop(stop.why, stop.vcpu, self.rip(stop.vcpu))
        return stop

    def _start(self) -> None:
        self.has_run = True
        if not self.machine.started:
            self.machine.start()

    def _arm(self) -> None:
        for point in self.points:
            gpa = point.gpa
            if point.kind is PointKind.HARDWARE and not self._delivered:  # a register stops interpreted code alone
                gpa = None if self._is_programs(point.address) else self.find(point.address, self.machine.vcpus[0])
            if point.kind.executes and gpa is not None:
                self.traps.put(gpa, point)
        self.pages.watch([(gpa, point.size) for gpa, point in self._watched()])
        for side in self._sides:
            side.arm(self.control(), self.registers())
        self.hook.want(TRAPS if self.traps.placed and not self._delivered else 0)

    def disarm(self) -> None:
        """Takes the points out, of a machine that is paused; those that are out already too."""
        self.traps.take_out()
        for side in self._sides:
            side.disarm()
        self.hook.rest()

    def _step_over(self, side: DebuggedVcpu) -> None:
        self.begin_step(side.thread.index)
        wait(None, self.event.watch)
        self.pause()
        with self._lock:
            self._stops = [stop for stop in self._stops if stop.why is not Why.STEP]
            self._clear_event()

    def _clear_event(self) -> None:
        if not self._has_unreported_stop:
            self.event.clear()

    @property
    def _has_unreported_stop(self) -> bool:
        """Whether there is a stop, or a hook that failed, that no caller was told of yet."""
        return bool(self._stops or self.hook.hooks.failures)
