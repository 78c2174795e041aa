"""Hooks: what tools see of a machine's exits, and what they do about them.

    class Writes(Hook):
        name = "writes"

        def see(self, thread):
            print(thread.index, thread.vcpu.run_page.exit_reason)

    machine.hooks.attach(Writes())

Imported with the first hook: a machine that has none pays one check an exit, in C (`hooked`, csrc/vcpu/vcpu.h).
"""

from __future__ import annotations

from corral.errors import ClosedError
from corral.native import lib
from corral.startup.record import record
from corral.startup.threads import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from corral.core.vcpu_thread import VcpuThread
    from corral.native import Event

    Result = TypeVar("Result")

EVERY_REASON = (1 << 64) - 1


class Hook:
    """What one tool does at each exit. Its methods are called on the thread of the vCPU that left the guest, so for
    several vCPUs at the same time.

    `reasons` has bit N set for exits of KVM's reason N that the hook sees before C finishes them; that costs some
    microseconds each. Exits that C leaves to Python come to every hook. `name` is for people.
    """

    name = "a hook"
    reasons = 0

    def take(self, thread: VcpuThread) -> bool:
        """True: the hook itself made this exit, by a breakpoint for example, and has dealt with it. It is not handled
        any further, and no other hook sees it."""
        return False

    def see(self, thread: VcpuThread) -> Callable[[], object] | None:
        """An exit of the guest's, before it is handled. What this returns is called after, unless the guest ended."""
        return None

    def ended(self, thread: VcpuThread) -> None:
        """The guest ended by itself on this vCPU, or the vCPU's thread failed."""

    def paused(self) -> None:
        """All vCPUs are out of the guest: its memory is to be as it has it itself."""

    def resumes(self) -> None:
        """They are about to enter it."""


@record(frozen=True)
class HookFailure:
    """A hook that raised an exception."""

    hook: str
    vcpu: int
    error: BaseException

    def __str__(self) -> str:
        error = f"{type(self.error).__name__}: {self.error}"
        return f"the hook {self.hook!r} failed on vCPU {self.vcpu} ({error}); it is removed, and the guest is paused"


class Hooks:
    """The hooks of one machine, in the order of their attachment. Every method may be called from any thread, from
    within a hook too.

    A hook that raises is removed, and the guest is paused: its error is in `failures`, and `waiters` are signalled.
    """

    def __init__(self, threads: Sequence[VcpuThread], waiters: Sequence[Event]) -> None:
        self.attached: tuple[Hook, ...] = ()  # replaced as a whole: vCPUs look at it meanwhile
        self.failures: list[HookFailure] = []  # that were not raised yet
        self._threads = threads
        self._waiters = waiters
        self._changing = RLock()
        for thread in threads:
            thread.hooks = self

    def attach(self, hook: Hook) -> None:
        """Each vCPU's next exit comes to `hook` too, after those that are attached. Does nothing the second time."""
        with self._changing:
            if hook not in self.attached:
                self.attached = (*self.attached, hook)
            self.update()

    def detach(self, hook: Hook) -> bool:
        """`hook` is not called any more; a call that another vCPU's thread is in comes to its end. False: it was not
        attached."""
        with self._changing:
            before = self.attached
            self.attached = tuple(other for other in before if other is not hook)
            self.update()
            return len(self.attached) < len(before)

    def update(self) -> None:
        """To be called when the `reasons` of a hook have changed."""
        with self._changing:
            hooked = 0
            for hook in self.attached:
                hooked |= hook.reasons | lib.CORRAL_ANY_HOOK
            for thread in self._threads:
                thread.vcpu.native.hooked = hooked

    def dispatch(self, thread: VcpuThread) -> None:
        """Handles the exit that `thread` is at. Raises what the handling of it raises, GuestEnded for one."""
        hooks, unanswered = self.attached, False
        for hook in hooks:
            taken = self._call(hook, thread, hook.take, thread)
            if taken:
                return
            unanswered |= taken is None
        if unanswered and thread.vcpu.run_page.exit_reason == lib.KVM_EXIT_DEBUG:
            thread.vcpu.finish()  # of a debugger that fails, or is gone by now: the guest has not asked for it
            return
        seen = [(hook, self._call(hook, thread, hook.see, thread)) for hook in hooks]
        thread.handle_exit()
        for hook, after in seen:
            if after:
                self._call(hook, thread, after)

    def ended(self, thread: VcpuThread) -> None:
        """The guest ended on this vCPU."""
        for hook in self.attached:
            self._call(hook, thread, hook.ended, thread)

    def paused(self) -> None:
        for hook in self.attached:
            hook.paused()

    def resumes(self) -> None:
        for hook in self.attached:
            hook.resumes()

    def raise_failure(self) -> None:
        """Raises the error of the first hook that failed since the last call, with a note on each hook that did."""
        with self._changing:
            failures, self.failures = self.failures, []
        if failures:
            error = failures[0].error
            for failure in failures:
                error.add_note(str(failure))
            raise error

    def _call(
        self, hook: Hook, thread: VcpuThread, function: Callable[..., Result], *arguments: object
    ) -> Result | None:
        """None if the hook is detached by now, or fails."""
        if hook not in self.attached:
            return None
        try:
            return function(*arguments)
        except BaseException as error:  # SystemExit too: the vCPU has to go on
            self.detach(hook)
            self.fail(hook, thread, error)
            return None

    def fail(self, hook: Hook, thread: VcpuThread, error: BaseException) -> None:
        """Pauses the guest for an error of `hook`, to be raised by whom it lets run."""
        with self._changing:
            self.failures.append(HookFailure(hook.name, thread.index, error))
        for other in self._threads:
            other.request_pause()
        self._wake()

    def _wake(self) -> None:
        for event in tuple(self._waiters):  # a debugger takes its own away
            try:
                event.signal()
            except ClosedError:  # the machine is being closed, and has woken them all
                pass
