"""What a scripted machine tells while it runs on: its programs' system calls, and what its kernel does (docs/research/probes.md)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.debug.probes.points import Event, Point
    from corral.debug.probes.probes import Probe
    from corral.debug.probes.syscalls import SyscallTrace
    from corral.machine import Machine
    from corral.symbols.table import Symbols

    class Guest(Machine):
        @property
        def symbols(self) -> Symbols: ...


class Observed:
    """Of ScriptedMachine."""

    def trace_syscalls(self, most: int = 1 << 16) -> SyscallTrace:
        """Records the system calls of all programs from here on, up to `most` that were not read yet: a context manager
        and an iterator of Syscall. The guest may run. Raises ConfigError for a kernel without symbols."""
        from corral.debug.probes import syscalls
        from corral.symbols.kernel_image import reader

        symbols = self.symbols
        return syscalls.SyscallTrace(self, syscalls.places(symbols, reader(self.config.kernel)), symbols, most)

    def on(self: Guest, what: str, call: Callable[[Event], object]) -> Probe:
        """Has `call` called with an Event whenever the kernel does that: "task_switch", "exec", "fork", "exit",
        "page_fault", "signal", "module_load", "oops", "panic", or a function of the kernel by its name. On the thread of the vCPU that
        came by, which waits; the others do not. What it raises comes out of run_until() or wait(). close() of what this
        returns ends it. Raises ConfigError."""
        from corral.debug.probes import points
        from corral.symbols.kernel_image import reader

        return points.on(self, self.symbols, reader(self.config.kernel), what, call)

    def _repr_html_(self: Guest) -> str:
        from corral.script import notebook

        return notebook.machine(self)
