"""What the command says on standard output and standard error.

All of it goes this way. What others wrote is made printable, so that no name and no label does anything to a terminal;
and a reader who stands still holds nothing up: text waits here, and only the end of the command waits for its reader.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from _thread import allocate_lock

from corral.errors import DENIED
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

PIECE = 4096  # bytes that one write takes; a pipe that is ready has room for them
MOST_PENDING = 64 * 1024  # bytes that wait for the reader; more text does wait for room
LOOK = 0.1  # seconds after which who waits looks whether to go on waiting: another thread may say
HURRY = 0.5  # seconds that a reader has at an end that somebody asked for

_until: float | None = None  # when readers are not waited for any more


def wait_until(moment: float) -> None:
    """No reader is waited for after `moment`, a time.monotonic()."""
    global _until
    _until = moment if _until is None else min(_until, moment)


def hurry() -> None:
    wait_until(time.monotonic() + HURRY)


def control(sequence: str) -> None:
    """Writes to standard error what does something to the terminal."""
    if isinstance(sys.stderr, Voice):
        sys.stderr.control(sequence)
    else:
        sys.stderr.write(sequence)


def ask(question: str) -> bool:
    """Whether a person at the terminal says yes. No, where this is no command at a terminal: nothing is asked."""
    if not isinstance(sys.stderr, Voice) or not (sys.stderr.isatty() and os.isatty(0)):
        return False
    control("\r\x1b[K")  # progress may stand there
    sys.stderr.write(f"corral: {question} [y/N] ")
    sys.stderr.flush()
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < PIECE:
        piece = os.read(0, 1)
        if not piece:
            print(file=sys.stderr)
            break
        answer += piece
    return answer.strip().lower() in (b"y", b"yes")


def opener(path: str, flags: int) -> int:
    """For open(): a file to write to, whose reader is not waited for if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)


def writer(descriptor: int) -> int:
    """The same terminal or pipe opened anew, so that writing never blocks and no other descriptor changes.

    `descriptor` itself where that cannot be done, or where writing does not block. Close what is not `descriptor`.
    """
    return _reopened(descriptor, os.O_WRONLY)


def reader(descriptor: int) -> int:
    """The same for reading."""
    return _reopened(descriptor, os.O_RDONLY)


def _reopened(descriptor: int, access: int) -> int:
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
        return descriptor
    try:
        return os.open(f"/proc/self/fd/{descriptor}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return descriptor


class Voice:
    """Stands in for the text stream `stream`, which is on `descriptor`, or elsewhere when a test has replaced it."""

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        self._stream, self._fd = stream, descriptor
        self.encoding = stream.encoding or "utf-8"
        self._real = _descriptor(stream) == descriptor
        self._writer = -1  # opened by the first word
        self._pending = bytearray()
        self._sending = allocate_lock()

    def write(self, text: str) -> int:
        self._put(printable(text, keep="\n\t"))
        return len(text)

    def control(self, sequence: str) -> None:
        self._put(sequence)

    def _put(self, text: str) -> None:
        if not self._real:
            self._stream.write(text)
            return
        self._pending += text.encode(self.encoding, "backslashreplace")
        if "\n" in text or len(self._pending) > PIECE:
            self._send(MOST_PENDING, lines=True)

    def flush(self) -> None:
        if self._real:
            self._send(MOST_PENDING)
        else:
            self._stream.flush()

    def finish(self) -> None:
        """Waits for the reader, as long as there is time for that. What is left then is lost."""
        if self._real:
            self._send(0)
        else:
            self._stream.flush()

    def open(self) -> None:
        """What it writes to; the first word does it otherwise, and in the jail nothing can be opened."""
        if self._real and self._writer < 0:
            self._writer = writer(self._fd)

    def close(self) -> None:
        if self._writer not in (-1, self._fd):
            os.close(self._writer)
        self._writer = -1

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _send(self, most: int, lines: bool = False) -> None:
        """What the reader takes at once, and more until no more than `most` bytes wait or the time is over; of short
        lines whole ones, if only `lines` are wanted. Raises BrokenPipeError and OSError."""
        if not self._sending.acquire(blocking=False):
            return  # by another thread, or by what a signal has interrupted: it sends this as well
        try:
            self.open()
            poll = select.poll()
            poll.register(self._writer, select.POLLOUT)
            while self._pending:
                too_much = len(self._pending) - most
                try:
                    ready = poll.poll(_patience() if too_much > 0 else 0)
                except OSError as error:
                    if error.errno not in DENIED:
                        raise
                    os.write(self._writer, self._pending)  # a policy denies poll(): what it takes at once, and no more
                    self._pending.clear()
                    return
                if not ready:
                    if too_much > 0 and _patience():
                        continue
                    del self._pending[: max(0, too_much)]
                    return
                size = self._pending.rfind(b"\n", 0, PIECE) + 1
                if not size:
                    if lines and len(self._pending) < PIECE:
                        return
                    size = PIECE
                try:
                    del self._pending[: os.write(self._writer, self._pending[:size])]
                except BlockingIOError:  # somebody else was faster to fill it
                    continue
        except OSError:
            self._pending.clear()
            raise
        finally:
            self._sending.release()


def open_all() -> None:
    """All that the command may still say can be said without opening anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Voice):
            stream.open()


class Speaking:
    """A context manager: print() speaks this way meanwhile."""

    def __enter__(self) -> Speaking:
        global _until
        _until = None
        self._before = sys.stdout, sys.stderr
        self.out, self.errors = Voice(sys.stdout, 1), Voice(sys.stderr, 2)
        sys.stdout, sys.stderr = self.out, self.errors
        return self

    def __exit__(self, *exception: object) -> None:
        sys.stdout, sys.stderr = self._before
        try:
            for voice in (self.errors, self.out):
                voice.finish()
        except OSError:  # no reader, or no room
            pass
        finally:
            self.errors.close()
            self.out.close()


def _patience() -> float:
    """Milliseconds to wait for a reader until the next look at that. 0: it had its time."""
    left = LOOK if _until is None else min(LOOK, _until - time.monotonic())
    return max(0.0, left) * 1000


def _descriptor(stream: TextIO) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # io.UnsupportedOperation is the first two
        return -1
