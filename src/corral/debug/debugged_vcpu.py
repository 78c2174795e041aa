"""A vCPU while a debugger is attached to it: how it is told of points and steps, and what its exits mean."""

from __future__ import annotations

from corral.core.hooks import EVERY_REASON, Hook
from corral.debug.breakpoints import Stop, Why
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from corral.core.hooks import Hooks
    from corral.core.vcpu_thread import VcpuThread
    from corral.debug.breakpoints import Point
    from corral.debug.traps import Trap, Traps
    from corral.debug.watched_pages import WatchedPages
    from corral.kvm.vcpu import Vcpu
    from corral.native import CData

    class Points(Protocol):
        """What a vCPU asks the debugger (debugger.py) of its points, and tells it."""

        hook: DebuggerHook
        traps: Traps
        pages: WatchedPages

        def report(self, stop: Stop) -> None: ...
        def find(self, address: int, vcpu: Vcpu) -> int | None: ...
        def stored_to(self, gpa: int, size: int) -> Point | None: ...
        def point_at(self, address: int) -> Point | None: ...
        def in_register(self, dr6: int) -> Point | None: ...
        def control(self) -> int: ...
        def registers(self) -> tuple[int, ...]: ...


ENABLE = lib.KVM_GUESTDBG_ENABLE
TRAPS = 1 << lib.KVM_EXIT_IO  # exits that traps are (traps.py)
_VECTOR_BP = 3
_DR6_STEP = 1 << 14


class DebuggerHook(Hook):
    """Gives exits to the DebuggedVcpu that left the guest."""

    name = "debugger"

    def __init__(self, hooks: Hooks, sides: Sequence[DebuggedVcpu]) -> None:
        self.hooks = hooks
        self._sides = sides

    def want(self, reasons: int) -> None:
        """Has exits for these reasons come here before C finishes them. Attaches the hook if need be."""
        self.reasons = reasons
        self.hooks.attach(self)

    def rest(self) -> None:
        """Leaves to C what it finishes."""
        self.reasons = 0
        self.hooks.update()

    def close(self) -> None:
        self.hooks.detach(self)

    def take(self, thread: VcpuThread) -> bool:
        return self._sides[thread.index].take()

    def see(self, thread: VcpuThread) -> Callable[[], object] | None:
        return self._sides[thread.index].see()

    def ended(self, thread: VcpuThread) -> None:
        self._sides[thread.index].ended()


class DebuggedVcpu:
    """`stopped_at` is the breakpoint that it was stopped for."""

    def __init__(self, debugger: Points, thread: VcpuThread) -> None:
        self.thread = thread
        self.vcpu = thread.vcpu
        self.stopped_at: int | None = None
        self._debugger = debugger
        self._stepping = self._trapping = self._told = False
        self._trapped: int | None = None  # the trap that it has come to; RIP may be behind it

    def rip(self) -> int:
        return int(self.vcpu.get_regs().rip + self.vcpu.get_sregs().cs.base)

    def arm(self, control: int, registers: tuple[int, ...]) -> None:
        """For a run with the debugger's points."""
        self.stopped_at = None
        self.vcpu.set_guest_debug(control, registers)

    def begin_step(self, control: int) -> None:
        """Of every exit is made sure that the guest does no more than that."""
        self.stopped_at = None
        self._stepping, self._told = True, False
        self.vcpu.set_guest_debug(control)
        self._debugger.hook.want(EVERY_REASON)

    def begin_step_to_trap(self, control: int) -> None:
        """The same where traps are at all places that the instruction can lead to."""
        self.stopped_at = None
        self._trapping = True
        self.vcpu.set_guest_debug(control)
        self._debugger.hook.want(TRAPS)

    def disarm(self) -> None:
        """The vCPU is as without a debugger; it is paused."""
        self._stepping = self._trapping = False
        if self._trapped is not None:
            self._go_back(self._trapped)  # after KVM has completed the write to the port
            self._trapped = None
        self.vcpu.set_guest_debug(0)

    # For hooks (hooks.py).

    def ended(self) -> None:
        self._debugger.report(Stop(Why.ENDED, self.thread.index, self.rip()))

    def take(self) -> bool:
        run = self.vcpu.run_page
        if run.exit_reason == lib.KVM_EXIT_DEBUG:
            if not self.vcpu.finish():
                self._debug_exit(run.debug.arch)
        elif (met := self._trap(run)) is not None:
            self._trap_exit(*met)
        elif run.exit_reason == lib.KVM_EXIT_MMIO and self._debugger.pages.holds(run.mmio.phys_addr):
            self._store(run)
        else:
            return False
        return True

    def see(self) -> Callable[[], object] | None:
        if self._stepping and self.vcpu.run_page.exit_reason != lib.KVM_EXIT_INTR:
            # The next KVM_RUN completes the instruction, and the pause that is asked for after this exit ends it.
            return self._stepped
        return None

    def _trap(self, run: CData) -> tuple[int, Trap] | None:
        if run.exit_reason != lib.KVM_EXIT_IO:
            return None
        return self._debugger.traps.met(run.io, self.rip, lambda address: self._debugger.find(address, self.vcpu))

    def _store(self, run: CData) -> None:
        """To a page that is watched: C does it, and has left the exit to us if these bytes are."""
        self.vcpu.finish()
        point = self._debugger.stored_to(run.mmio.phys_addr, run.mmio.len)
        if self._stepping:
            self._stepped()
        elif point and not self._trapping:
            self._stop(Why.WATCHPOINT, self.rip(), point)

    def _debug_exit(self, debug: CData) -> None:
        pc, dr6 = debug.pc, debug.dr6
        if debug.exception == _VECTOR_BP:
            point = self._debugger.point_at(pc)
            if point:
                self._stop(Why.BREAKPOINT, pc, point)
            else:
                self._inject(lib.KVM_GUESTDBG_INJECT_BP)
        elif self._stepping:
            self._stepped()
        elif (point := self._debugger.in_register(dr6)) is not None:
            self._stop(Why.BREAKPOINT if point.kind.executes else Why.WATCHPOINT, pc, point)
        elif not dr6 & _DR6_STEP:
            self._inject(lib.KVM_GUESTDBG_INJECT_DB)

    def _trap_exit(self, address: int, trap: Trap) -> None:
        self._trapped = address
        self._go_back(address)
        if self._trapping:
            self._stop(Why.STEP, address, None)
        else:
            self._stop(Why.BREAKPOINT, address, trap.point)

    def _go_back(self, address: int) -> None:
        regs = self.vcpu.get_regs()
        regs.rip = address - self.vcpu.get_sregs().cs.base
        self.vcpu.set_regs(regs)

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
        self.vcpu.set_guest_debug(debugger.control() | ENABLE | flag, debugger.registers())
