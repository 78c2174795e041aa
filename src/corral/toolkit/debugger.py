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
import select
import time

from corral import exits
from corral.console import Console
from corral.errors import ConfigError
from corral.native import ffi, lib
from corral.threads import allocate_lock
from corral.toolkit import finishers
from corral.toolkit.breakpoints import DEBUG_REGISTERS, INT3, Kind, Point, Stop, Why, debug_registers
from corral.toolkit.host_debugging import of_host
from corral.toolkit.page_walk import translate
from corral.toolkit.symbols import KERNEL_MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.bus import Bus
    from corral.exits import MutableBytes
    from corral.machine import Machine
    from corral.native import CData
    from corral.vcpu import VcpuThread

_ENABLE = lib.KVM_GUESTDBG_ENABLE
_POINTS = lib.KVM_GUESTDBG_USE_SW_BP | lib.KVM_GUESTDBG_USE_HW_BP
_STEP = lib.KVM_GUESTDBG_SINGLESTEP
_VECTOR_BP = 3
_DR6_STEP = 1 << 14
_PAGE = 4096


class GuestAddressError(ConfigError):
    """A linear address that the guest has not mapped to its RAM."""


class Debugger:
    """Attaches to a machine that was not started, or runs; pauses it. close() detaches and lets it run on.

    Raises HostError when this KVM has no guest debugging.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.points: list[Point] = []
        self.has_run = machine.started
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = allocate_lock()
        self._stops: list[Stop] = []
        self._soft: dict[int, bytes] = {}  # guest physical address: the byte that INT3 stands for
        self._step_flags = _STEP | self._without_interrupts()
        self._host = of_host(machine.system.kind)
        self.assisted = bool(machine.vcpus[0].native.assist)
        machine.pause()
        self._sides = [_Side(self, thread) for thread in machine.threads]

    def close(self) -> None:
        self.detach()
        if self.machine.started:
            self.machine.resume()

    def detach(self) -> None:
        """close() of a machine that shall stay paused."""
        self.pause()
        self.points.clear()
        for side in self._sides:
            side.detach()
        os.close(self._event)

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Points. The guest is stopped.

    def add(self, kind: Kind, address: int, size: int = 1, callback: Callable[[Stop], object] | None = None) -> Point:
        """Raises ConfigError for what cannot be: a fifth debug register, memory that is not there."""
        point = Point(kind, address, size, callback)
        if kind is Kind.SOFTWARE:
            point.gpa = self.locate(address)
        elif kind not in self._patched_or_stepped() and not self.registers_left:
            raise ConfigError("all four debug registers are in use; remove a point, or take a software breakpoint")
        elif kind is Kind.ACCESS and not self._host.data:
            raise ConfigError("this host's KVM does not tell of loads; watch for writes")
        elif kind is Kind.WRITE and not self._host.data:
            self.locate(address)
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
        """Puts the points in, for whoever lets the machine run by himself and calls finish(). False: there is a stop
        to be told of first."""
        if self._stops or any(thread.end for thread in self.machine.threads):
            return False
        for side in self._sides:
            if side.stopped_at is not None and side.stopped_at == side.rip():
                self._step_over(side)  # over the breakpoint that it is at
                if self._stops:
                    return False
        self._arm()
        self.has_run = True
        return True

    def wait(self, timeout: float | None = None, console: Console | None = None) -> Stop:
        """Waits for a stop and stops all. Raises what a device or the VMM failed with."""
        if not self._stops and (over := next((thread for thread in self.machine.threads if thread.end), None)):
            return Stop(Why.ENDED, over.index, self.rip(over.index))
        (console or Console()).serve(self.machine.serial, self._event, timeout)
        return self.finish()

    def fileno(self) -> int:
        """Readable when something stopped the guest."""
        return self._event

    def poll(self, timeout: float | None) -> bool:
        """Whether something stopped the guest, within `timeout` seconds. For whoever does not serve the console."""
        return bool(select.select([self._event], [], [], timeout)[0]) or any(t.end for t in self.machine.threads)

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
        side.begin_step(_ENABLE | self._step_flags)
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
        gpa = translate(self.machine.memory, self.machine.vcpus[vcpu].get_sregs(), address)
        if gpa is None and not self.has_run and KERNEL_MAP <= address < KERNEL_MAP + self.machine.memory.low_end:
            gpa = address - KERNEL_MAP
        if gpa is None:
            raise GuestAddressError(f"{address:#x} is not mapped to the guest's RAM")
        return gpa

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
        os.eventfd_write(self._event, 1)

    def soft_at(self, address: int) -> Point | None:
        return next((p for p in self.points if p.kind is Kind.SOFTWARE and p.address == address), None)

    def stepped_to(self, address: int) -> Point | None:
        return next((p for p in self._by_stepping() if p.kind.executes and p.address == address), None)

    def in_register(self, dr6: int) -> Point | None:
        points = self._in_registers()
        return next((point for slot, point in enumerate(points) if dr6 >> slot & 1), None)

    def changed(self, watches: CData) -> Point | None:
        """On the vCPU's thread: the watched point whose bytes changed; takes note of them."""
        points = [point for point in self._in_registers() if point.kind is Kind.WRITE]
        for point, watch in zip(points, watches.watch[0 : watches.count], strict=False):
            with self._lock:  # one vCPU tells of it
                now = ffi.buffer(watch.host, watch.size)[:]
                if now != ffi.buffer(watch.old, watch.size)[:]:
                    watch.old[0 : watch.size] = now
                    return point
        return None

    def control(self) -> int:
        """KVM_GUESTDBG_ flags while running."""
        return int(_ENABLE | _POINTS | (_STEP if self._by_stepping() else 0)) if self.points else 0

    def registers(self) -> tuple[int, ...]:
        return debug_registers(self._in_registers())

    @property
    def registers_left(self) -> int:
        """How many more debug registers there are for points."""
        return DEBUG_REGISTERS - len(self._in_registers())

    def _in_registers(self) -> list[Point]:
        return [point for point in self.points if point.kind not in self._patched_or_stepped()]

    def _patched_or_stepped(self) -> tuple[Kind, ...]:
        return (Kind.SOFTWARE,) if self._host.execution else (Kind.SOFTWARE, Kind.HARDWARE)

    def _by_stepping(self) -> list[Point]:
        """Points that this host does not deliver."""
        return [p for p in self.points if not (self._host.execution if p.kind.executes else self._host.data)]

    def _take(self) -> Stop:
        with self._lock:
            stop = self._stops.pop(0) if self._stops else Stop(Why.TIMEOUT)
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
        memory = self.machine.memory
        for point in self.points:
            if point.gpa is not None and self._host.execution and point.gpa not in self._soft:
                self._soft[point.gpa] = memory.read(point.gpa, 1)
                memory.write(point.gpa, INT3)
        watches = self._new_watches()
        for side in self._sides:
            side.arm(watches)

    def _new_watches(self) -> CData | None:
        """What all vCPUs compare after each step, on a KVM that tells nothing of accesses to data."""
        if not self._by_stepping():
            return None
        memory = self.machine.memory
        points = [point for point in self._by_stepping() if point.kind is Kind.WRITE]
        stops = [point.address for point in self._by_stepping() if point.kind.executes]
        watches = ffi.new("struct corral_watches *", {"count": len(points), "stop_count": len(stops)})
        watches.stops[0 : len(stops)] = stops
        if not self._host.execution:
            self._again = ffi.new("struct kvm_guest_debug *", {"control": self.control()})
            watches.again = self._again
        for watch, point in zip(watches.watch, points, strict=False):
            gpa = self.locate(point.address)
            watch.host = ffi.cast("uint8_t *", memory.host_address + memory.offset(gpa, point.size))
            watch.size = point.size
            watch.old[0 : point.size] = memory.read(gpa, point.size)
        return watches

    def disarm(self) -> None:
        """Takes the points out, of a machine that is paused; those that are out already too."""
        while self._soft:
            gpa, byte = self._soft.popitem()
            if self.machine.memory.read(gpa, 1) == INT3:  # the guest may have written there
                self.machine.memory.write(gpa, byte)
        for side in self._sides:
            side.disarm()

    def _step_over(self, side: _Side) -> None:
        self.begin_step(side.thread.index)
        select.select([self._event], [], [])
        self.pause()
        with self._lock:
            self._stops = [stop for stop in self._stops if stop.why is not Why.STEP]
            self._clear_event()

    def _clear_event(self) -> None:
        if not self._stops:
            try:
                os.eventfd_read(self._event)
            except BlockingIOError:
                pass

    def _without_interrupts(self) -> int:
        supported = self.machine.system.capability("SET_GUEST_DEBUG2")
        return int(supported & lib.KVM_GUESTDBG_BLOCKIRQ)


class _Side:
    """A vCPU's side: what its exits mean while a debugger is attached. `stopped_at` is the breakpoint that it was
    stopped for."""

    def __init__(self, debugger: Debugger, thread: VcpuThread) -> None:
        self.thread = thread
        self.stopped_at: int | None = None
        self._debugger = debugger
        self._vcpu = thread.vcpu
        self._native = thread.vcpu.native
        self._finishers = finishers.of(thread.vcpu)
        self._taken: set[int] = set()
        self._stepping = self._told = False
        self._ended = thread.ended
        thread.dispatch = self.dispatch
        thread.ended = self.ended

    def detach(self) -> None:
        self.thread.dispatch = exits.dispatch
        self.thread.ended = self._ended

    def rip(self) -> int:
        return int(self._vcpu.get_regs().rip + self._vcpu.get_sregs().cs.base)

    def arm(self, watches: CData | None) -> None:
        """For a run with the debugger's points."""
        debugger = self._debugger
        self.stopped_at = None
        self._vcpu.set_guest_debug(debugger.control(), debugger.registers())
        if debugger.assisted and any(point.kind is Kind.SOFTWARE for point in debugger.points):
            self._take(lib.KVM_EXIT_INTERNAL_ERROR)
        if watches:
            self._watches = watches  # keeps it alive: C has its address only
            self._native.watches = watches
            self._native.finish[lib.KVM_EXIT_DEBUG] = lib.corral_finish_watched

    def begin_step(self, control: int) -> None:
        """Of every exit is made sure that the guest does no more than that."""
        self.stopped_at = None
        self._stepping, self._told = True, False
        self._vcpu.set_guest_debug(control)
        for reason in range(len(self._native.finish)):
            self._take(reason)

    def disarm(self) -> None:
        """The vCPU is as without a debugger."""
        self._stepping = False
        self._native.watches = ffi.NULL
        self._native.finish[lib.KVM_EXIT_DEBUG] = ffi.NULL
        while self._taken:
            self._finishers.give_back(self._taken.pop())
        self._vcpu.set_guest_debug(0)

    def ended(self, thread: VcpuThread) -> None:
        self._debugger.report(Stop(Why.ENDED, thread.index, self.rip()))
        self._ended(thread)

    def dispatch(self, run: CData, page: MutableBytes, ports: Bus, mmio: Bus) -> None:
        reason = run.exit_reason
        if reason == lib.KVM_EXIT_DEBUG:
            self._debug_exit(run.debug.arch)
            return
        if reason == lib.KVM_EXIT_INTERNAL_ERROR and not self._stepping:
            rip = self.rip()
            point = self._debugger.soft_at(rip)
            if point and run.internal.suberror == exits.INTERNAL_ERROR_EMULATION:
                self._stop(Why.BREAKPOINT, rip, point)
                return
        if not self._finishers.finish(reason):
            exits.dispatch(run, page, ports, mmio)
        if self._stepping and reason != lib.KVM_EXIT_INTR:
            # The next KVM_RUN completes the instruction, and the pause that is asked for here ends it.
            self._stepped()

    def _debug_exit(self, debug: CData) -> None:
        pc, dr6 = debug.pc, debug.dr6
        if debug.exception == _VECTOR_BP:
            point = self._debugger.soft_at(pc)
            if point:
                self._stop(Why.BREAKPOINT, pc, point)
            else:
                self._inject(lib.KVM_GUESTDBG_INJECT_BP)
        elif self._stepping:
            self._stepped()
        elif (point := self._debugger.in_register(dr6)) is not None:
            self._stop(Why.BREAKPOINT if point.kind.executes else Why.WATCHPOINT, pc, point)
        elif self._native.watches:
            if point := self._debugger.stepped_to(pc):
                self._stop(Why.BREAKPOINT, pc, point)
            elif point := self._debugger.changed(self._native.watches):
                self._stop(Why.WATCHPOINT, pc, point)
        elif not dr6 & _DR6_STEP:
            self._inject(lib.KVM_GUESTDBG_INJECT_DB)

    def _stepped(self) -> None:
        """Once a step: some KVM tell of it after they have completed the instruction, too."""
        if not self._told:
            self._told = True
            self._stop(Why.STEP, 0, None)

    def _stop(self, why: Why, rip: int, point: Point | None) -> None:
        if why is Why.BREAKPOINT:
            self.stopped_at = rip
        self._debugger.report(Stop(why, self.thread.index, rip, point))

    def _inject(self, flag: int) -> None:
        """The guest's own: it gets the exception."""
        debugger = self._debugger
        self._vcpu.set_guest_debug(debugger.control() | _ENABLE | flag, debugger.registers())

    def _take(self, reason: int) -> None:
        if reason not in self._taken:
            self._taken.add(reason)
            self._finishers.take(reason)
