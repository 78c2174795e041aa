"""The far end of the guest's serial line: this process's descriptors, the escape keys, and when to stop."""

from __future__ import annotations

import os
import select
import time

from corral.enums import Enum
from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.devices.serial import Serial

CTRL_A, CTRL_D = 0x01, 0x04
CHUNK = 4096  # a pipe that is ready takes so much without blocking
MOST_PENDING = 64 * 1024  # output that waits here; the rest waits in the UART, which holds the guest back
MOST_TYPED = 64 * 1024  # keys that wait here for a guest that does not listen
TAIL = 4096  # output that is kept for a report
RETRY = 0.01  # seconds until input that the UART had no room for is offered again
AGAIN, SLOWER, AGAIN_AT_MOST = 0.5, 1.5, 60.0  # seconds until Ctrl-D is repeated: a program may have lost the first
GATHER = 0.002  # seconds in which what a guest sends byte by byte is gathered
FLUSH = 1.0  # seconds that a reader who stalls is given when the time is over
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL

HELP = b"\r\nCtrl-A X  end the guest and leave\r\nCtrl-A A  send Ctrl-A\r\nCtrl-A H  this help\r\n"


def _at_once() -> bool:
    return True


class Over(Enum):
    """Why serve() came back."""

    ENDED = "the guest ended"
    TIMEOUT = "the time is over"
    QUIT = "the user asked to quit"
    CLOSED = "nobody reads the console any more"


class Console:
    """Copies between the guest's serial line and two descriptors of this process; either may be None.

    `keys`: input comes from a person at a terminal in raw mode, so Ctrl-A is an escape key; the value is the
    descriptor that help for it is written to. What a person asks for by Ctrl-A X is up to `may_leave`, which may tell
    the guest first and say no. With None input is passed as it is, and its end is Ctrl-D to the
    guest, so that a shell there ends too.
    """

    def __init__(self, output: int | None = None, input: int | None = None, keys: int | None = None) -> None:
        self.may_leave: Callable[[], bool] = _at_once
        self._output = output
        self._input = input
        self._keys = keys
        self._escaped = False
        self._pending = bytearray()  # for output
        self._typed = bytearray()  # for the guest
        self._offered = 0  # bytes that the UART took
        self._again: float | None = None  # when Ctrl-D is due
        self._pause = 0.0  # until it is due again
        self._gathered = 0.0  # when it is time to look at the UART again
        self._deadline: float | None = None
        self.tail = b""  # the last that the guest sent

    def serve(self, serial: Serial, ended: int, timeout: float | None) -> Over:
        """Works until `ended` (a descriptor) is readable, `timeout` seconds are over, or the user is gone.

        Raises HostError when the output cannot be written (a full disk).
        """
        self._deadline = None if timeout is None else time.monotonic() + timeout
        while self._deadline is None or time.monotonic() < self._deadline:
            wanted = {ended: select.POLLIN}
            gathering = time.monotonic() < self._gathered
            if len(self._pending) < MOST_PENDING and not gathering:
                wanted[serial.fileno()] = select.POLLIN
            ready = self._wait(wanted, self._next_moment(gathering))
            if self._output is not None and not self._write(ready):
                return Over.CLOSED
            if self._input in ready and not self._read():
                return Over.QUIT
            if serial.fileno() in ready:
                self._drain(serial)
                self._gathered = time.monotonic() + GATHER
            self._offer(serial)
            if ended in ready:
                return Over.ENDED
        return Over.TIMEOUT

    def finish(self, serial: Serial) -> None:
        """Writes out what the guest sent before it was stopped.

        A reader who stalls is waited for, a second at most if there was a timeout; Ctrl-A X ends that too.
        """
        while self._drain(serial):
            pass
        patience = None if self._deadline is None else max(self._deadline, time.monotonic()) + FLUSH
        while self._pending and (patience is None or time.monotonic() < patience):
            ready = self._wait({}, patience)
            if not self._write(ready) or (self._input in ready and not self._read()):
                return

    def _wait(self, wanted: dict[int, int], moment: float | None) -> dict[int | None, int]:
        """Descriptors with something to do, until `moment`."""
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        if self._output is not None:  # with nothing to write, to learn that the reader is gone
            poll.register(self._output, select.POLLOUT if self._pending else 0)
        if self._input is not None and (self._keys is not None or not self._typed):
            poll.register(self._input, select.POLLIN)
        return dict(poll.poll(None if moment is None else max(0.0, moment - time.monotonic()) * 1000))

    def _next_moment(self, gathering: bool) -> float | None:
        moments = [moment for moment in (self._deadline, self._again) if moment is not None]
        if gathering:
            moments.append(self._gathered)
        if self._typed:
            moments.append(time.monotonic() + RETRY)
        return min(moments, default=None)

    def _drain(self, serial: Serial) -> bool:
        data = serial.drain()
        self.tail = (self.tail + data)[-TAIL:]
        if self._output is not None:
            self._pending += data
        return bool(data)

    def _write(self, ready: dict[int | None, int]) -> bool:
        """As much as is taken without blocking. False: there is no reader any more."""
        assert self._output is not None
        events = ready.get(self._output, 0)
        if events & GONE:
            return False
        if events and self._pending:
            try:
                del self._pending[: os.write(self._output, self._pending[:CHUNK])]
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
            if byte in b"hH?" and self._keys is not None:
                os.write(self._keys, HELP)
            elif byte in (ord("a"), ord("A"), CTRL_A):
                self._typed.append(CTRL_A)
            else:
                self._typed += bytes((CTRL_A, byte))
        # The keyboard is always read, for Ctrl-A X; what a deaf guest has no room for is lost, as on any line.
        del self._typed[MOST_TYPED:]
        return True

    def _offer(self, serial: Serial) -> None:
        if self._again is not None and not self._typed and time.monotonic() >= self._again:
            self._end_input(serial)
        if self._typed:
            taken = serial.offer(bytes(self._typed))
            self._offered += taken
            del self._typed[:taken]

    def _end_input(self, serial: Serial) -> None:
        """Ctrl-D; again, less and less often, if the guest took it and is still there."""
        if not self._pause or serial.stats()["received"] >= self._offered:
            self._typed.append(CTRL_D)
            self._pause = min(self._pause * SLOWER or AGAIN, AGAIN_AT_MOST)
        self._again = time.monotonic() + self._pause
