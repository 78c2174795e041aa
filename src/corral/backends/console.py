"""The far end of the guest's serial line: this process's descriptors, the escape keys, and when to stop."""

from __future__ import annotations

import errno
import os
import time

from corral.core.exits import Over
from corral.core.waiting import GONE, READABLE, WRITABLE, wait_for
from corral.errors import HostError
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.backends.channel import Channel

    class SerialLine(Protocol):
        """The guest's UART, as this end sees it (devices/serial.py)."""

        def watch(self) -> int:
            """An eventfd of the caller's, signalled when there is output."""

        def watch_room(self) -> int:
            """An eventfd of the caller's, signalled when the guest has room for input."""

        def drain(self) -> bytes:
            """Takes the output that there is."""

        def offer(self, data: bytes) -> int:
            """Returns how much of it the guest has room for, and got."""

        def stats(self) -> dict[str, int]:
            """`received`: bytes that the guest has read, and more."""

    class Beside(Protocol):
        """Others who look at the console and type there (running/named.py)."""

        def watched(self) -> dict[int, int]:
            """Descriptors, and what to poll() them for before serve()."""

        def serve(self, ready: dict[int, int]) -> bytes:
            """Does what can be done without waiting; returns what they have typed."""

        def show(self, data: bytes) -> None:
            """The guest has sent that."""


CTRL_A, CTRL_D = 0x01, 0x04
CHUNK = 4096  # a pipe that is ready takes so much without blocking
MOST_PENDING = 64 * 1024  # output that waits here; the rest waits in the UART, which holds the guest back
MOST_TYPED = 64 * 1024  # keys that wait here for a guest that does not listen
TAIL = 4096  # output that is kept for a report
AGAIN, SLOWER, AGAIN_AT_MOST = 0.5, 1.5, 60.0  # seconds until Ctrl-D is repeated: a program may have lost the first
GATHER = 0.002  # seconds in which what a guest sends byte by byte is gathered
FLUSH = 0.5  # seconds that a reader who stalls is given when the time is over

SILENT = (20.0, 60.0, 300.0)  # seconds after which a person is told that the guest has said nothing yet

HELP = """\
Ctrl-A X  end the guest and leave
Ctrl-A I  what this guest is, and for how long it has run
Ctrl-A A  send Ctrl-A; so does Ctrl-A Ctrl-A
Ctrl-A H  this help
All other keys go to the guest, Ctrl-C too. `exit`, or `poweroff` in a distribution, ends it from inside."""


def _at_once() -> bool:
    return True


def _nothing_known() -> str:
    return "a guest"


class Console:
    """Copies between the guest's serial line and two descriptors of this process; either may be None.

    `keys`: input comes from a person at a terminal in raw mode, so Ctrl-A is an escape key; the value is the
    descriptor that help for it is written to. What a person asks for by Ctrl-A X is up to `may_leave`, which may tell
    the guest first and say no; what Ctrl-A I prints is `about`'s. `hint`: of a guest that says nothing at all they are
    told that after a while, and this. With None input is passed as it is, and its end is Ctrl-D to the
    guest, so that a shell there ends too. A `channel` is served beside the line. `may_end_early`: a guest whose command
    has ended, with streams of its own, need not be waited for. `room`: how many bytes the output takes yet, None: all.
    """

    def __init__(
        self,
        output: int | None = None,
        input: int | None = None,
        keys: int | None = None,
        channel: Channel | None = None,
    ) -> None:
        self.may_leave: Callable[[], bool] = _at_once
        self.about: Callable[[], str] = _nothing_known
        self.hint = ""
        self.may_end_early = False
        self.beside: Beside | None = None
        self.room: int | None = None
        self.lost = 0  # bytes that there was no room for
        self._output = output
        self._input = input
        self._keys = keys
        self._channel = channel
        self._escaped = False
        self._pending = bytearray()  # for output
        self._typed = bytearray()  # for the guest
        self._offered = 0  # bytes that the UART took
        self._again: float | None = None  # when Ctrl-D is due
        self._pause = 0.0  # until it is due again
        self._gathered = 0.0  # when it is time to look at the UART again
        self._deadline: float | None = None
        self._began = 0.0
        self._silent: list[float] = []  # when a person is told that nothing has come yet, the next last
        self.tail = b""  # the last that the guest sent

    def serve(self, serial: SerialLine, ended: int, timeout: float | None) -> Over:
        """Works until `ended` (a descriptor) is readable, `timeout` seconds are over, or the user is gone.

        Raises HostError when the output cannot be written (a full disk).
        """
        self._began = time.monotonic()
        self._deadline = None if timeout is None else self._began + timeout
        if self.hint and self._keys is not None:
            self._silent = [self._began + after for after in reversed(SILENT)]
        copies: list[int] = []
        try:
            for watch in (serial.watch, serial.watch_room):
                copies.append(watch())
            line, room = copies
            return self._serve(serial, line, room, ended)
        finally:
            for copy in copies:
                os.close(copy)

    def _serve(self, serial: SerialLine, line: int, room: int, ended: int) -> Over:
        while True:  # once in any case, however late it is by now
            wanted = {ended: READABLE}
            if self._typed:
                wanted[room] = READABLE
            gathering = time.monotonic() < self._gathered
            if len(self._pending) < MOST_PENDING and not gathering:
                wanted[line] = READABLE
            if self._channel:
                wanted |= self._channel.watched()
            if self.beside:
                wanted |= self.beside.watched()
            ready = self._wait(wanted, self._next_moment(gathering))
            if self._output is not None and not self._write(ready):
                return Over.CLOSED
            if self._input in ready and not self._read():
                return Over.QUIT
            if self.beside:
                self._typed += self.beside.serve(ready)
                del self._typed[MOST_TYPED:]
            if line in ready:
                self._drain(serial)
                self._gathered = time.monotonic() + GATHER
            if self._channel and not self._serve_channel(self._channel):
                return Over.CLOSED
            self._offer(serial)
            self._mind_silence()
            if ended in ready or (self.may_end_early and self._channel and self._channel.is_over):
                return Over.ENDED
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return Over.TIMEOUT

    def finish(self, serial: SerialLine) -> None:
        """Writes out what the guest sent before it was stopped.

        A reader who stalls is waited for, a second at most if there was a timeout; Ctrl-A X ends that too.
        """
        while self._drain(serial):
            pass
        patience = None if self._deadline is None else max(self._deadline, time.monotonic()) + FLUSH
        if self._channel and self.beside:  # which may be its reader
            while not self._channel.finish(time.monotonic()) and (patience is None or time.monotonic() < patience):
                self.beside.serve(wait_for(self.beside.watched(), time.monotonic() + GATHER))
        elif self._channel:
            self._channel.finish(patience)
        while self._pending and (patience is None or time.monotonic() < patience):
            ready = self._wait({}, patience)
            if not self._write(ready) or (self._input in ready and not self._read()):
                return

    def _serve_channel(self, channel: Channel) -> bool:
        """False: there is no reader any more."""
        channel.serve()
        failure = channel.failure
        if failure is None or channel.status is not None:  # all has arrived, so who reads no more has missed nothing
            return True
        stream, number = failure
        if number != errno.EPIPE:
            raise HostError(f"cannot write {stream}: {os.strerror(number)}; make room for it")
        return False

    def _wait(self, wanted: dict[int, int], moment: float | None) -> dict[int, int]:
        """Descriptors with something to do, until `moment`."""
        wanted = dict(wanted)
        if self._output is not None:  # with nothing to write, to learn that the reader is gone
            wanted[self._output] = WRITABLE if self._pending else 0
        if self._input is not None and (self._keys is not None or not self._typed):
            wanted[self._input] = READABLE
        return wait_for(wanted, moment)

    def _next_moment(self, gathering: bool) -> float | None:
        again = None if self._typed else self._again  # what was typed before it goes first
        moments = [moment for moment in (self._deadline, again, *self._silent[-1:]) if moment is not None]
        if gathering:
            moments.append(self._gathered)
        return min(moments, default=None)

    def _drain(self, serial: SerialLine) -> bool:
        data = serial.drain()
        self.tail = (self.tail + data)[-TAIL:]
        if self._output is not None:
            self._pending += data
        if self.beside and data:
            self.beside.show(data)
        return bool(data)

    def _write(self, ready: dict[int, int]) -> bool:
        """As much as is taken without blocking. False: there is no reader any more."""
        assert self._output is not None
        events = ready.get(self._output, 0)
        if events & GONE:
            return False
        if events and self._pending:
            piece = self._pending[: CHUNK if self.room is None else min(CHUNK, self.room)]
            if not piece:
                self.lost += len(self._pending)
                self._pending.clear()
                return True
            try:
                count = os.write(self._output, piece)
                del self._pending[:count]
                if self.room is not None:
                    self.room -= count
            except BlockingIOError:  # somebody else was faster to fill it
                pass
            except BrokenPipeError:
                return False
            except OSError as error:
                raise HostError(f"cannot write the guest's console: {error.strerror}; make room for it") from error
        return True

    def _read(self) -> bool:
        """False: the user asked to quit."""
        assert self._input is not None
        try:
            data = os.read(self._input, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # a terminal that hung up
            data = b""
        if not data:
            self._input = None
            self._again = time.monotonic()
        elif self._keys is None:
            self._typed += data
        else:
            return self._type(data)
        return True

    def _type(self, data: bytes) -> bool:
        """Keys that a person struck. False: quit."""
        for byte in data:
            if not self._escaped:
                self._escaped = byte == CTRL_A
                if not self._escaped:
                    self._typed.append(byte)
                continue
            self._escaped = False
            if byte in b"xX":
                if self.may_leave():
                    return False
                continue
            if byte in b"hH?":
                self._tell(HELP)
            elif byte in b"iI":
                self._tell(self.about())
            elif byte in (ord("a"), ord("A"), CTRL_A):
                self._typed.append(CTRL_A)
            else:
                self._typed += bytes((CTRL_A, byte))
        # The keyboard is always read, for Ctrl-A X; what a deaf guest has no room for is lost, as on any line.
        del self._typed[MOST_TYPED:]
        return True

    def _tell(self, text: str) -> None:
        """To the person at the terminal, which is raw; one that is stopped gets none."""
        if self._keys is not None and wait_for({self._keys: WRITABLE}, time.monotonic()):
            shown = printable(text, keep="\n")
            os.write(self._keys, f"\n{shown}\n".replace("\n", "\r\n").encode())

    def _mind_silence(self) -> None:
        if self.tail:
            self._silent.clear()
        elif self._silent and time.monotonic() >= self._silent[-1]:
            passed = self._silent.pop() - self._began
            self._tell(f"corral: the guest has said nothing for {passed:.0f} s; {self.hint}")

    def _offer(self, serial: SerialLine) -> None:
        if self._again is not None and not self._typed and time.monotonic() >= self._again:
            self._end_input(serial)
        if self._typed and not (self._channel and self._channel.defers_input):
            taken = serial.offer(bytes(self._typed))
            self._offered += taken
            del self._typed[:taken]

    def _end_input(self, serial: SerialLine) -> None:
        """Ctrl-D; again, less and less often, if the guest took it and is still there."""
        if not self._pause or serial.stats()["received"] >= self._offered:
            self._typed.append(CTRL_D)
            self._pause = min(self._pause * SLOWER or AGAIN, AGAIN_AT_MOST)
        self._again = time.monotonic() + self._pause
