"""A question that is asked of every exit, also of those that C finishes by itself.

While it is asked, C passes each exit on to Python, which costs some microseconds each.
"""

from __future__ import annotations

from struct import unpack_from

from corral.core.exits import exit_reasons
from corral.core.hooks import EVERY_REASON, Hook
from corral.native import ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.core.hooks import Hooks
    from corral.core.vcpu_thread import VcpuThread
    from corral.native import Event


@record(frozen=True)
class Exit:
    """`reason` is KVM's, without KVM_EXIT_. IO and MMIO: `address` (a port, or guest physical), `size` in bytes,
    whether it is a `write`, the `value` of a write, and `count` elements of a string access; all 0 for others."""

    HEX = ("address", "value")

    vcpu: int
    reason: str
    address: int = 0
    size: int = 0
    write: bool = False
    value: int = 0
    count: int = 0


class ExitHook(Hook):
    """Attached to `threads`, all vCPUs of a machine, until close(). At the first exit for which `asked` is true the
    guest is paused and `hit` is signalled."""

    name = "run_until(exit=...)"
    reasons = EVERY_REASON

    def __init__(
        self, hooks: Hooks, threads: Sequence[VcpuThread], asked: Callable[[Exit], object], hit: Event
    ) -> None:
        self.found: Exit | None = None
        self._hooks, self._threads = hooks, threads
        self._hit = hit
        self._asked = asked
        self._names = {number: name for name, number in exit_reasons().items()}
        self._hooks.attach(self)

    def close(self) -> None:
        self._hooks.detach(self)
        self._hit.clear()

    def see(self, thread: VcpuThread) -> Callable[[], object] | None:
        exit = self._described(thread)
        if self.found is None and self._asked(exit):
            return lambda: self._stop(exit)
        return None

    def _described(self, thread: VcpuThread) -> Exit:
        run, page, vcpu = thread.vcpu.run_page, thread.vcpu.page, thread.index
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

    def _stop(self, exit: Exit) -> None:
        """The vCPU that is at the exit completes its instruction first, as KVM does before it looks at a kick."""
        self.found = self.found or exit
        for thread in self._threads:
            thread.request_pause()
        self._hit.signal()
