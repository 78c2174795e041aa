"""The user's terminal: raw while a guest has it, and as it was ever after."""

from __future__ import annotations

import os
import sys
import time

from corral import voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType

    from corral.cli.bar import Bar
else:
    import _signal as signal  # what `signal` wraps; it imports enum, and starting is a feature

_BAR_AFTER = 1.0  # seconds
_BETWEEN_PERCENTAGES = 30.0  # seconds, where nothing can be written over
_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Raw:
    """A context manager: the terminal `descriptor` passes every key on. `descriptor` None: there is none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        if self._descriptor is not None:
            import atexit
            import termios

            self._saved = termios.tcgetattr(self._descriptor)
            atexit.register(self._restore)  # for a signal that comes between here and the body of the `with`
            self._make_raw()
            # A shell that stops and continues us sets the terminal as it likes meanwhile.
            signal.signal(signal.SIGCONT, lambda number, frame: self._make_raw())

    def __exit__(self, *exception: object) -> None:
        if self._descriptor is not None:
            import atexit

            signal.signal(signal.SIGCONT, signal.SIG_DFL)
            self._restore()
            atexit.unregister(self._restore)

    def _make_raw(self) -> None:
        import termios

        assert self._descriptor is not None
        raw = termios.tcgetattr(self._descriptor)
        raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        raw[1] &= ~termios.OPOST
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        self._set(raw)

    def _restore(self) -> None:
        self._set(self._saved)

    def _set(self, attributes: list[int | list[bytes | int]]) -> None:
        import termios

        assert self._descriptor is not None
        try:
            # Not TCSADRAIN: it would wait for a reader who does not read.
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
        except termios.error:  # the terminal hung up: there is nothing to set any more
            pass


def leave(number: int, frame: FrameType | None) -> None:
    """A signal's handler that ends this process as an exception does."""
    for other in _LEAVING:  # one is enough; what unwinds now is not to be interrupted
        signal.signal(other, signal.SIG_IGN)
    voice.hurry()
    sys.exit(128 + number)


def leave_on_signals() -> None:
    """Lets SIGINT, SIGTERM and SIGHUP unwind the process as an exception does: the terminal is restored, the guest
    ended, the exit status 128 + the signal's number. One that was ignored (nohup) stays ignored."""
    for number in _LEAVING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


class Progress:
    """One line on stderr that is written over on a terminal; elsewhere a line for each new text, and of percentages
    one each half a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._last = ""
        self._terminal = os.isatty(2)
        self._clock = clock
        self._told = 0.0  # when the last line was written,
        self._subject = ""  # and what it was about
        self._began: float | None = None
        self._bar: Bar | None = None

    def __call__(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if self._terminal:
            self._show(text)
        elif not text.endswith("%") or self._is_due(text.partition(",")[0]):
            self._told, self._subject = self._clock(), text.partition(",")[0]
            sys.stderr.write(f"corral: {text}\n")
        sys.stderr.flush()

    def _is_due(self, subject: str) -> bool:
        return subject != self._subject or self._clock() - self._told > _BETWEEN_PERCENTAGES

    def _show(self, text: str) -> None:
        """In place of what was there: a bar of what takes over a second, if it has a percentage at its end."""
        if self._began is None:
            self._began = self._clock()
        words, _, number = text.removesuffix(" %").rpartition(", ")
        if text.endswith(" %") and number.isdigit() and self._clock() - self._began > _BAR_AFTER:
            if self._bar is None:
                from corral.cli import bar

                voice.control("\r\x1b[K")
                self._bar = bar.made()
            if self._bar:
                self._bar.show(words, int(number))
                return
        self._close_bar()
        voice.control("\r\x1b[K")
        sys.stderr.write(f"corral: {text}")

    def _close_bar(self) -> None:
        if self._bar:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_bar()
        if self._terminal and self._last:
            voice.control("\r\x1b[K")
            sys.stderr.flush()
        self._last = ""
