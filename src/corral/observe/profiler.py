"""Where a guest spends its time: each vCPU is asked so many times a second where it is, and who called that code.

    with Machine(config) as machine, Profiler(machine, rate=500) as profiler:
        machine.run(timeout=10)
    print(profiler.profile.text())

A sample is taken by the vCPU's own thread, which leaves the guest for it (sampler.c). It works on any KVM, and
needs nothing of the guest.
"""

from __future__ import annotations

import time

from corral.errors import ClosedError, ConfigError, HostError
from corral.native import Handle, ffi, lib
from corral.observe.paused_vcpu import PausedVcpu
from corral.observe.periodic import Periodic
from corral.observe.unwind import Unwinder
from corral.symbols.table import of_guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine
    from corral.native import CData
    from corral.symbols.table import Symbols

FASTEST = 10_000  # samples a second
_WAITING = 256  # samples of a vCPU that wait to be read
HALTED, USER = "[halted]", "[user]"
ROWS = 20
_TALLEST = 700  # px, of a flame graph in a notebook


class Profile:
    """Stacks and how often they were met; `stacks` has names, outermost first. `guessed` of them were found without
    frame pointers; `lost` samples found no room, or no vCPU that could be asked."""

    def __init__(self) -> None:
        self.stacks: dict[tuple[str, ...], int] = {}
        self.samples = self.guessed = self.lost = 0

    def add(self, stack: tuple[str, ...], guessed: bool = False) -> None:
        self.stacks[stack] = self.stacks.get(stack, 0) + 1
        self.samples += 1
        self.guessed += guessed

    def functions(self) -> list[tuple[str, int, int]]:
        """(name, samples in it, samples in it or what it called), most first."""
        own: dict[str, int] = {}
        total: dict[str, int] = {}
        for stack, count in self.stacks.items():
            own[stack[-1]] = own.get(stack[-1], 0) + count
            for name in set(stack):
                total[name] = total.get(name, 0) + count
        rows = [(name, own.get(name, 0), count) for name, count in total.items()]
        return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))

    def _repr_html_(self) -> str:
        from corral import notebook
        from corral.observe import flame

        depth = max(map(len, self.stacks), default=0)
        picture = flame.svg(self.stacks, f"{self.samples} samples")
        return notebook.picture(picture, min(_TALLEST, depth * flame.HEIGHT + 80))

    def text(self) -> str:
        """A table of the functions that took most."""
        lines = [f"{self.samples} samples" + (f", {self.lost} lost" if self.lost else "")]
        if not self.samples:
            return lines[0]
        if self.guessed:
            share = 100 * self.guessed / self.samples
            lines[0] += f"; {share:.0f} % of the stacks are guessed by return addresses, for want of frame pointers"
        lines += ["", "  self   total  function"]
        for name, own, total in self.functions()[:ROWS]:
            lines.append(f"{100 * own / self.samples:5.1f} % {100 * total / self.samples:5.1f} %  {name}")
        return "\n".join(lines)


class Profiler:
    """A context manager over a machine that has not started, or is paused; `rate` in samples a second of each vCPU, for
    `limit` seconds at most.

    `symbols` are those of the kernel where none are given. Raises ConfigError.
    """

    def __init__(
        self, machine: Machine, rate: float = 500, symbols: Symbols | None = None, limit: float | None = None
    ) -> None:
        if not 0 < rate <= FASTEST:
            raise ConfigError(f"{rate:g} samples a second: more than 0 and at most {FASTEST}")
        if any(vcpu.native.sampler != ffi.NULL for vcpu in machine.vcpus):
            raise ConfigError("this machine has a profiler already; close that first, or read it")
        self.profile = Profile()
        self._machine = machine
        # Now: done while the guest runs, it would take the time of samples.
        self._symbols = symbols or of_guest(machine.config.kernel)
        self._unwinder = Unwinder(self._symbols, self._code) if self._symbols else None
        self._until = None if limit is None else time.monotonic() + limit
        self._samplers: list[Handle] = []
        self._sample = ffi.new("struct corral_sample *")
        self._bytes = ffi.buffer(ffi.addressof(self._sample, "stack"))
        self._periodic = Periodic(1 / rate, self._step)
        for thread in machine.threads:
            sampler = lib.corral_sampler_create(_WAITING)
            if sampler == ffi.NULL:
                self._detach()
                raise HostError("no memory for samples")
            self._samplers.append(Handle(sampler, lib.corral_sampler_destroy, "this profiler"))
            with PausedVcpu(thread):
                thread.vcpu.native.sampler = sampler

    def __enter__(self) -> Profiler:
        self._periodic.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Takes the samplers away; what is in `profile` stays."""
        try:
            self._periodic.end()
            self._read()
        finally:
            self._detach()

    def _detach(self) -> None:
        for thread, sampler in zip(self._machine.threads, self._samplers, strict=False):
            with PausedVcpu(thread):
                thread.vcpu.native.sampler = ffi.NULL
            self.profile.lost += sampler.call(lib.corral_sampler_lost)
            sampler.close()
        self._samplers.clear()

    def _step(self) -> None:
        if self._until is None or time.monotonic() < self._until:
            for vcpu in self._machine.vcpus[: len(self._samplers)]:
                try:
                    vcpu.held(lib.corral_sampler_request)
                except ClosedError:  # what was sampled until then is there
                    pass
        self._read()

    def _read(self) -> None:
        for sampler in self._samplers:
            while sampler.call(lib.corral_sampler_next, self._sample):
                self._add(self._sample)

    def _add(self, sample: CData) -> None:
        if sample.halted:
            self.profile.add((HALTED,))
        elif sample.cpl == 3:
            self.profile.add((USER,))
        else:
            self._add_kernel(sample)

    def _add_kernel(self, sample: CData) -> None:
        if self._symbols is None or self._unwinder is None:
            self.profile.add((f"{sample.rip:#x}",))
            return
        addresses, guessed = self._unwinder.stack(
            sample.rip, sample.rsp, sample.rbp, bytes(self._bytes[: sample.stack_size])
        )
        names = [found[0] if (found := self._symbols.find(address)) else "[unknown]" for address in addresses]
        self.profile.add(tuple(reversed(names)), guessed)

    def _code(self, address: int, length: int) -> bytes:
        """The kernel's text where it is loaded: linear addresses are those of the file, less where they are mapped."""
        from corral.memory import GuestMemoryError
        from corral.symbols.table import KERNEL_MAP

        gpa = address - KERNEL_MAP if address >= KERNEL_MAP else address
        try:
            return self._machine.memory.read(gpa, length)
        except (GuestMemoryError, ClosedError):
            return b""
