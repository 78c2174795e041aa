"""A target: a guest that was brought to where it waits for input, and goes on from there with as many as one likes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from corral.errors import GuestError, GuestTimeout, HostError
from corral.fuzz import area, findings
from corral.fuzz.machine import FuzzedMachine
from corral.fuzz.port import Said
from corral.script import forks
from corral.snapshot.resumed import Resumed, save_into
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from corral.config import MachineConfig
    from corral.fuzz.findings import FuzzFinding
    from corral.symbols.table import Symbols

_AFTER_OTHERS = ", after the inputs before it only; --fresh 1 has none before"
BOOT = 120.0  # seconds until a target asks for input: an interpreted kernel takes that long


@record(frozen=True)
class Execution:
    """What came of one input. `coverage`: how often each edge was taken. `finding`: None where the target asked for the
    next input as it should."""

    data: bytes
    coverage: bytes
    finding: FuzzFinding | None = None


Step = Callable[[Execution | None], bytes | None]


class Target:
    """A guest at its checkpoint. A context manager.

    `timeout`: how many seconds it may work on one input. `fresh`: after so many inputs it goes back to the checkpoint
    (it does so after each finding). `symbols` are the program's, for the stacks of findings; None for those of the
    kernel. Raises what making a machine raises; GuestError and GuestTimeout for a guest that asks for no input.
    """

    def __init__(
        self, config: MachineConfig, timeout: float, fresh: int = 1, symbols: Symbols | None = None, boot: float = BOOT
    ) -> None:
        self.timeout, self._fresh, self.symbols = timeout, fresh, symbols
        self._fd = -1
        self._vm: FuzzedMachine | None = FuzzedMachine(config)
        self._area: area.Area | None = None
        self._checkpoint: Resumed | None = None
        self._left = 0
        self._reported: set[str] = set()  # names of findings
        try:
            self._vm.port.begin()
            self._vm.port.started = float("inf")
            self._vm.work(time.monotonic() + boot, boot)
            self._require_ready(self._vm, boot)
            self._layout = area.find(self._vm.mem, self._vm.port.address)
            self.room = self._layout.room
            self.edges = sum(length for _, length in self._layout.map)
            self._fd = os.memfd_create("corral-fuzz", os.MFD_CLOEXEC)
            save_into(self._vm, self._fd)
            self._checkpoint = Resumed("the checkpoint", self._fd)
        except OSError as error:
            self.close()
            raise HostError(f"cannot keep the checkpoint: {error.strerror}; free memory") from None
        except BaseException:
            self.close()
            raise

    def _require_ready(self, vm: FuzzedMachine, boot: float) -> None:
        if vm.port.said is Said.WAITS:
            return
        if vm.has_ended:
            end = next((str(thread.end) for thread in vm.threads if thread.end), "it was stopped")
            raise GuestError(f"the target ended before it asked for input: {end}; {vm.console.last}")
        if vm.port.said is Said.CRASHED:
            raise GuestError(f"the target crashed before it asked for input; {vm.console.last}")
        raise GuestTimeout(
            f"the target did not ask for input within {boot:g} s; corral_fuzz.h says how (corral fuzz --include); "
            f"{vm.console.last}"
        )

    def drive(self, step: Step, until: float = float("inf"), look: Callable[[], object] = bool) -> None:
        """Gives the target one input after the other: `step` is told what came of the last (None: there was none), and
        returns the next, or None to end. It is called on the vCPU's thread, where the guest waits for it, or on this.
        Ends at `until` (time.monotonic()) too. `look` is called now and then."""
        data = step(None)
        while data is not None and time.monotonic() < until:
            data = self._some(data, step, until, look)
            look()

    def _some(self, data: bytes, step: Step, until: float, look: Callable[[], object]) -> bytes | None:
        """From one machine as many inputs as may be. Returns the next; None to end."""
        vm, shared = self._ready()
        given: list[bytes | None] = [data]

        def following() -> bool:
            done = given[0]
            assert done is not None
            given[0] = step(Execution(done, shared.coverage()))
            self._left -= 1
            if given[0] is None or self._left <= 0 or time.monotonic() >= until:
                return False
            shared.put(given[0])
            return True

        shared.put(data)
        vm.port.following = following
        vm.port.begin()
        vm.work(until, self.timeout, look)
        said, current = vm.port.said, given[0]
        if current is None or (said is None and not vm.has_ended and time.monotonic() >= until):
            self._go_back(vm)
            return None
        if said is Said.WAITS:
            if self._left <= 0:
                self._go_back(vm)
            return current
        done, alone = self._found(vm, shared, current), self._left == self._fresh
        self._go_back(vm)
        if not alone or (done.finding and done.finding.kind == findings.TIMEOUT):
            done = self._again(done, until)
        if done.finding:
            self._reported.add(done.finding.name)
        return step(done)

    def _found(self, vm: FuzzedMachine, shared: area.Area, data: bytes) -> Execution:
        finding = findings.of(vm, vm.port.said, shared.told(), self.symbols, self.timeout)
        if finding.name not in self._reported and len(self._reported) < findings.MOST:
            finding = replace(finding, report=vm.report())  # takes a tenth of a second
        return Execution(data, shared.coverage(), finding)

    def _again(self, before: Execution, until: float) -> Execution:
        """A finding once more, from the checkpoint on: the inputs before it may have had their part. One that took too
        long, and does not any more, is none: the host was busy."""
        vm, shared = self._ready()
        shared.put(before.data)
        vm.port.following = None
        vm.port.begin()
        vm.work(max(until, time.monotonic() + self.timeout), self.timeout)
        assert before.finding
        if vm.port.said is not Said.WAITS:
            done = self._found(vm, shared, before.data)
        elif before.finding.kind == findings.TIMEOUT:
            done = Execution(before.data, shared.coverage())
        else:
            done = replace(before, finding=replace(before.finding, what=f"{before.finding.what}{_AFTER_OTHERS}"))
        self._go_back(vm)
        return done

    def _go_back(self, vm: FuzzedMachine) -> None:
        """The next input begins at the checkpoint: in place, or in a new machine where this one is over."""
        if vm.has_ended:
            self._drop()
        else:
            vm.reset()
            self._left = self._fresh

    def run(self, data: bytes) -> Execution:
        """What comes of one input, from the checkpoint on."""
        found: list[Execution] = []

        def step(execution: Execution | None) -> bytes | None:
            if execution is None:
                return data
            found.append(execution)
            return None

        self.drive(step)
        return found[0]

    def _ready(self) -> tuple[FuzzedMachine, area.Area]:
        """A machine that waits for input, at the checkpoint or after another input."""
        if self._vm is None:
            assert self._checkpoint
            self._vm = forks.machine(FuzzedMachine, self._checkpoint.another(), False, None, None)
            self._vm.pause()
            self._vm.start()  # as far as to the pause
        if self._area is None:
            self._area, self._left = area.Area(self._layout, self._vm.memory), self._fresh
            self._vm.checkpoint()
        return self._vm, self._area

    def _drop(self) -> None:
        """The next input begins at the checkpoint."""
        shared, vm, self._area, self._vm = self._area, self._vm, None, None
        if shared:
            shared.close()
        if vm:
            vm.close()

    def close(self) -> None:
        self._drop()
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint:
            checkpoint.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
