"""What the kernel or C has given and wants back: a descriptor, a pointer. It is never used after it was given back."""

from __future__ import annotations

import os
from time import sleep

from corral.errors import ClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_GLANCE = 0.0001  # seconds between looks at those who still use what is to be given back


def _do_nothing(value: Any) -> None:
    """What close() does while it waits unless it is told otherwise, and what is left to give back after it."""


class Handle:
    """`value` is used by call(), from any thread, and given back by close() with `give_back(value)`.

    `of` is what a person calls the thing that is closed then: "this machine".
    """

    def __init__(self, value: Any, give_back: Callable[[Any], object], of: str = "this machine") -> None:
        self._value: Any = value
        self._give_back = give_back
        self._of = of
        self._users: list[None] = []  # one for each call() that is at work

    @property
    def value(self) -> Any:
        """For C that keeps it, and ends before it is given back. Raises ClosedError."""
        value = self._value
        if value is None:
            raise ClosedError(f"{self._of} is closed")
        return value

    @property
    def closed(self) -> bool:
        return self._value is None

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """`function(value, *arguments)`, during which close() waits. Raises ClosedError."""
        try:
            # First of all in here: an exception out of a signal handler comes behind a call, and then takes it back.
            self._users.append(None)
            return function(self.value, *arguments)
        finally:
            self._users.pop()

    def close(self, wake: Callable[[Any], object] = _do_nothing) -> None:
        """Gives the value back when no call() is at work any more; does nothing the second time. `wake(value)` is
        called meanwhile, for what only then comes to an end. Not from within a call(), so from no signal handler."""
        value, self._value = self._value, None
        if value is None:
            return
        while self._users:
            wake(value)
            sleep(_GLANCE)
        give_back, self._give_back = self._give_back, _do_nothing  # perhaps a method of the handle's owner
        give_back(value)


class Event(Handle):
    """An eventfd: signal() makes watch() readable, clear() ends that. Each raises ClosedError after close()."""

    def __init__(self, of: str = "this machine") -> None:
        super().__init__(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), os.close, of)

    def signal(self) -> None:
        """From any thread, and from a signal handler."""
        self.call(os.eventfd_write, 1)

    def clear(self) -> None:
        try:
            self.call(os.eventfd_read)
        except BlockingIOError:  # not signalled
            pass

    def watch(self) -> int:
        """A descriptor to poll, the caller's to close: it stands for this event also when that is closed meanwhile."""
        return int(self.call(os.dup))
