"""What a script lets its guest run until."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.script.conversation import pattern_of
from corral.script.exit_hook import Exit, ExitHook
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from typing import Protocol

    from corral.core.hooks import Hooks
    from corral.core.vcpu_thread import VcpuThread
    from corral.debug.breakpoints import Point, Stop
    from corral.native import Event
    from corral.script.conversation import Conversation

    class Driven(Protocol):
        """A machine (machine.py), as far as a goal needs it."""

        threads: list[VcpuThread]
        console: Conversation

        @property
        def hooks(self) -> Hooks: ...
        def pause(self) -> None: ...
        def breakpoint(self, where: str | int) -> Point: ...
        def remove(self, point: Point) -> None: ...


@record(frozen=True)
class Reached:
    """What run_until() stopped for: one of these. `exit` has been handled, and its instruction is over; `stop` is that
    of a breakpoint or watchpoint."""

    match: re.Match[bytes] | None = None
    exit: Exit | None = None
    condition: bool = False
    stop: Stop | None = None


class Goal:
    """The arguments of ScriptedMachine.run_until(), of which any ends the run; without one, a breakpoint, if the
    machine has `points`. `text` tells them to a person. Raises ConfigError where there is nothing to wait for."""

    def __init__(
        self,
        machine: Driven,
        what: str | bytes | re.Pattern[bytes] | int | None,
        at: str | int | None,
        exit: Callable[[Exit], object] | None,
        condition: Callable[[], object] | None,
        points: bool,
    ) -> None:
        text, self._at = (None, what) if isinstance(what, int) else (what, at)
        place = hex(self._at) if isinstance(self._at, int) else self._at
        goals = {repr(text): text, f"the way to {place}": self._at, "the exit": exit, "the condition": condition}
        self.text = " or ".join(name for name, given in goals.items() if given is not None)
        if not self.text and not points:
            raise ConfigError("run_until() needs a text, a place, an exit or a condition; wait() runs to the end")
        self.text = self.text or "a breakpoint"
        self._machine, self._exit, self._condition = machine, exit, condition
        self._pattern = None if text is None else pattern_of(text)
        self._point: Point | None = None
        self._hook: ExitHook | None = None

    def set(self, hit: Event) -> None:
        """In the machine, which is paused: its breakpoint, and its hook, which signals `hit`. clear() undoes it."""
        self._point = None if self._at is None else self._machine.breakpoint(self._at)
        if self._exit is not None:
            self._hook = ExitHook(self._machine.hooks, self._machine.threads, self._exit, hit)

    def reached(self) -> Reached | None:
        """What is so now, but for breakpoints. A condition is asked of the machine paused."""
        if self._pattern and (match := self._machine.console.find(self._pattern)):
            return Reached(match=match)
        if self._condition:
            self._machine.pause()
            if self._condition():
                return Reached(condition=True)
        if self._hook and self._hook.found:
            return Reached(exit=self._hook.found)
        return None

    def clear(self) -> None:
        if self._hook:
            self._hook.close()
        if self._point:
            self._machine.remove(self._point)
