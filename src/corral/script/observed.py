"""What a scripted machine tells of itself: its programs' system calls and its kernel's doings while it runs on
(docs/research/probes.md), reports, and what it shows in a notebook."""

from __future__ import annotations

from corral.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.debug.probes.points import KernelEvent
    from corral.debug.probes.probes import Probe
    from corral.debug.probes.syscalls import SyscallTrace
    from corral.script.conversation import Conversation
    from corral.script.register_access import Registers
    from corral.symbols.table import Symbols


class Observed(Machine):
    """The part of ScriptedMachine that looks at it and changes nothing."""

    if TYPE_CHECKING:
        console: Conversation

        @property
        def symbols(self) -> Symbols: ...
        @property
        def running(self) -> bool: ...
        def known_symbols(self) -> Symbols | None: ...
        def regs_of(self, vcpu: int) -> Registers: ...

    def trace_syscalls(self, most: int = 1 << 16) -> SyscallTrace:
        """Records the system calls of all programs from here on, up to `most` that were not read yet: a context manager
        and an iterator of Syscall. The guest may run. Raises ConfigError for a kernel without symbols."""
        from corral.debug.probes import syscalls
        from corral.symbols.kernel_image import reader

        self.require_open()
        symbols = self.symbols
        return syscalls.SyscallTrace(self, syscalls.places(symbols, reader(self.config.kernel)), symbols, most)

    def on(self, what: str, call: Callable[[KernelEvent], object]) -> Probe:
        """Has `call` called with a KernelEvent whenever the kernel does that: "task_switch", "exec", "fork", "exit",
        "page_fault", "signal", "module_load", "oops", "panic", or a function of the kernel by its name. That is on the
        thread of the vCPU that came by, which waits; the others do not. What `call` raises comes out of run_until() or
        wait(). The guest may run; close() of what this returns ends it. Raises ConfigError."""
        from corral.debug.probes import points
        from corral.symbols.kernel_image import reader

        self.require_open()
        return points.on(self, self.symbols, reader(self.config.kernel), what, call)

    def report(self, vcpu: int = 0) -> str:
        """All that can be said of the guest as it is, for people (docs/research/report.md)."""
        from corral.debug.report import full
        from corral.script.notebook import ReportText
        from corral.script.register_access import require_vcpu

        require_vcpu(vcpu, len(self.vcpus))
        self.pause()
        return ReportText(full.of_paused(self, vcpu, self.console.output))

    def _repr_html_(self) -> str:
        """What it is, what it does, where its vCPUs are while it is paused, and the end of what it said."""
        from corral.script import notebook

        places = []
        if self.started and not self.closed and not self.running:
            symbols = self.known_symbols()
            addresses = [self.regs_of(index).rip for index in range(self.config.cpus)]
            places = [symbols.text(rip) if symbols else f"{rip:#x}" for rip in addresses]
        return notebook.machine(self.config, self._condition, places, self.console.output)
