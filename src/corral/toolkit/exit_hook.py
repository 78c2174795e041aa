"""A question that is asked of every exit, also of those that C finishes by itself.

While a hook is there, C passes each exit on to Python (some microseconds each); its own finisher is called from here.
"""

from __future__ import annotations

import os
from struct import unpack_from

from corral import exits
from corral.exits import exit_reasons
from corral.native import CData, ffi, lib
from corral.record import record
from corral.toolkit import finishers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.bus import Bus
    from corral.exits import MutableBytes
    from corral.machine import Machine
    from corral.vcpu import VcpuThread


@record(frozen=True)
class Exit:
    """`reason` is KVM's, without KVM_EXIT_. IO and MMIO: `address` (a port, or guest physical), `size` in bytes,
    whether it is a `write`, the `value` of a write, and `count` elements of a string access; all 0 for others."""

    vcpu: int
    reason: str
    address: int = 0
    size: int = 0
    write: bool = False
    value: int = 0
    count: int = 0


class ExitHook:
    """Over all vCPUs of a machine that is paused, or was not started; close() likewise."""

    def __init__(self, machine: Machine, asked: Callable[[Exit], object], hit: int) -> None:
        self.found: Exit | None = None
        self._machine = machine
        self._hit = hit
        self._asked = asked
        self._names = {number: name for name, number in exit_reasons().items()}
        self._sides = [_Side(self, thread) for thread in machine.threads]

    def close(self) -> None:
        for side in self._sides:
            side.close()
        try:
            os.eventfd_read(self._hit)
        except BlockingIOError:
            pass

    def seen(self, vcpu: int, run: CData, page: MutableBytes) -> Exit:
        name = self._names.get(run.exit_reason, str(run.exit_reason))
        if name == "IO":
            io = run.io
            write = io.direction != lib.KVM_EXIT_IO_IN
            value = int.from_bytes(page[io.data_offset : io.data_offset + io.size], "little") if write else 0
            return Exit(vcpu, name, io.port, io.size, write, value, io.count)
        if name == "MMIO":
            size, write = min(run.mmio.len, 8), bool(run.mmio.is_write)
            value = unpack_from("<Q", ffi.buffer(run.mmio.data, 8))[0] & ((1 << size * 8) - 1) if write else 0
            return Exit(vcpu, name, run.mmio.phys_addr, size, write, value, 1)
        return Exit(vcpu, name)

    def wants(self, exit: Exit) -> bool:
        return self.found is None and bool(self._asked(exit))

    def hit(self, exit: Exit) -> None:
        """Stops all; the vCPU that is at the exit completes its instruction first, as KVM does before it looks at a
        kick."""
        self.found = self.found or exit
        for thread in self._machine.threads:
            thread.request_pause()
        os.eventfd_write(self._hit, 1)


class _Side:
    def __init__(self, hook: ExitHook, thread: VcpuThread) -> None:
        self._hook = hook
        self._thread = thread
        self._before = thread.dispatch
        self._finishers = finishers.of(thread.vcpu)
        self._reasons = range(len(thread.vcpu.native.finish))
        for reason in self._reasons:
            self._finishers.take(reason)
        thread.dispatch = self.dispatch

    def close(self) -> None:
        for reason in self._reasons:
            self._finishers.give_back(reason)
        self._thread.dispatch = self._before

    def dispatch(self, run: CData, page: MutableBytes, ports: Bus, mmio: Bus) -> None:
        exit = self._hook.seen(self._thread.index, run, page)
        wanted = self._hook.wants(exit)
        # A debugger sees the exit first: an INT3 may be its own.
        if self._before is not exits.dispatch or not self._finishers.finish(run.exit_reason):
            self._before(run, page, ports, mmio)
        if wanted:
            self._hook.hit(exit)
