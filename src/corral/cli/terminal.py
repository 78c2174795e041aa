"""The user's terminal: raw while a guest has it, and as it was ever after."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


class Raw:
    """A context manager: the terminal `descriptor` passes every key on, unless it is no terminal at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_terminal = os.isatty(descriptor)

    def __enter__(self) -> Raw:
        if self.is_terminal:
            import termios

            self._saved = termios.tcgetattr(self._descriptor)
            raw = termios.tcgetattr(self._descriptor)
            raw[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
            raw[1] &= ~termios.OPOST
            raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, raw)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.is_terminal:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def leave_on_signals() -> None:
    """Lets SIGTERM and SIGHUP unwind the process as an exception does: the terminal is restored, the guest ended."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)


class Progress:
    """One line on stderr that is written over on a terminal; elsewhere a line for each new text."""

    def __init__(self) -> None:
        self._last = ""
        self._terminal = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if self._terminal:
            sys.stderr.write(f"\r\x1b[Kcorral: {text}")
        elif not text.endswith("%") or text.endswith("0 %"):
            sys.stderr.write(f"corral: {text}\n")
        sys.stderr.flush()

    def done(self) -> None:
        if self._terminal and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
