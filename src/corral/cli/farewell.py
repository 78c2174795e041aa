"""Leaving a guest that has something to save: it is asked first, and made to after a while."""

from __future__ import annotations

import sys

from corral import voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType

    from corral.backends.console import Console
    from corral.machine import Machine
else:
    import _signal as signal  # see cli/terminal.py

_ASKED = "the guest is asked to shut down, and ended in {grace:g} s; ask again to end it at once"


class Farewell:
    """A context manager around a machine's run, for the main thread.

    Ctrl-A X (Console.may_leave) and a SIGTERM, SIGINT or SIGHUP ask the guest to end (Machine.ask_to_end) the first
    time. The second time, or `grace` seconds later, they do what they do without this.
    """

    def __init__(self, machine: Machine, console: Console, grace: float) -> None:
        self._machine = machine
        console.may_leave = self.may_leave
        self._grace = grace
        self._asked = False
        self._number = 0
        self._before: dict[int, object] = {}
        self._status: int | None = None

    def __enter__(self) -> Farewell:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._signalled)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._insist)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._status is not None and exception[0] is None:
            sys.exit(self._status)

    def may_leave(self) -> bool:
        """Whether it was asked already; if not, it is now."""
        if self._asked:
            return True
        self._asked = True
        self._machine.ask_to_end()
        signal.setitimer(signal.ITIMER_REAL, self._grace)
        try:
            voice.control(f"\r\ncorral: {_ASKED.format(grace=self._grace)}\r\n")
            sys.stderr.flush()
        except OSError:  # a terminal that hung up, which may be why we are here
            pass
        return False

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        if self.may_leave():
            self._insist(number, frame)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        if self._number:
            self._status = 128 + self._number
        self._machine.dismiss()
