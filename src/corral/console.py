"""The far end of the guest's serial line: this process's descriptors, the escape keys, and when to stop."""

from __future__ import annotations

import enum
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.devices.serial import Serial

CTRL_A, CTRL_D = 0x01, 0x04
CHUNK = 4096
MOST_PENDING = 64 * 1024  # output that waits here; the rest waits in the UART, which holds the guest back
RETRY = 0.01  # seconds until input that the UART refused is offered again
END_OF_INPUT_AGAIN = 2.0  # seconds until Ctrl-D is repeated: a program may have thrown the first away
FLUSH = 1.0  # seconds that a reader who stalls is given when the time is over

HELP = b"\r\nCtrl-A X  end the guest and leave\r\nCtrl-A A  send Ctrl-A\r\nCtrl-A H  this help\r\n"


class Over(enum.Enum):
    """Why serve() came back."""

    ENDED = "the guest ended"
    TIMEOUT = "the time is over"
    QUIT = "the user asked to quit"
    CLOSED = "nobody reads the console any more"


class Console:
    """Copies between the guest's serial line and two descriptors of this process; either may be None.

    `keys`: input comes from a person at a terminal in raw mode, so Ctrl-A is an escape key. Otherwise input is
    passed as it is, and its end is Ctrl-D to the guest, so that a shell there ends too.
    """

    def __init__(self, output: int | None = None, input: int | None = None, keys: bool = False) -> None:
        self._output = output
        self._input = input
        self._keys = keys
        self._escape = False
        self._pending = bytearray()  # for output
        self._typed = bytearray()  # for the guest
        self._end_of_input: float | None = None  # when Ctrl-D is due again

    def serve(self, serial: Serial, ended: int, timeout: float | None) -> Over:
        """Works until `ended` (a descriptor) is readable, `timeout` seconds are over, or the user is gone.

        What the guest sent until then is written out before this returns.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        over = self._serve(serial, ended, deadline)
        if over in (Over.ENDED, Over.TIMEOUT):
            patience = None if deadline is None else max(deadline, time.monotonic()) + FLUSH
            over = self._flush(serial, over, patience)
        return over

    def _serve(self, serial: Serial, ended: int, deadline: float | None) -> Over:
        while deadline is None or time.monotonic() < deadline:
            ready = self._wait(serial, ended, deadline)
            try:
                if ready.get(serial.fileno()):
                    self._drain(serial)
                if self._output in ready:
                    self._write()
            except BrokenPipeError:
                return Over.CLOSED
            if self._input in ready and self._input is not None and not self._read(self._input):
                return Over.QUIT
            self._offer(serial)
            if ended in ready and serial.fileno() not in ready:
                return Over.ENDED
        return Over.TIMEOUT

    def _wait(self, serial: Serial, ended: int, deadline: float | None) -> dict[int | None, int]:
        """Descriptors with something to do, for as long as nothing is due."""
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if len(self._pending) < MOST_PENDING:
            poll.register(serial.fileno(), select.POLLIN)
        if self._pending and self._output is not None:
            poll.register(self._output, select.POLLOUT)
        if self._input is not None and not self._typed:
            poll.register(self._input, select.POLLIN)
        due = [time.monotonic() + RETRY] if self._typed else []
        due += [moment for moment in (deadline, self._end_of_input) if moment is not None]
        milliseconds = None if not due else max(0.0, min(due) - time.monotonic()) * 1000
        return dict(poll.poll(milliseconds))

    def _drain(self, serial: Serial) -> bool:
        data = serial.drain()
        if self._output is not None:
            self._pending += data
        return bool(data)

    def _write(self) -> None:
        """As much as a descriptor that is ready takes without blocking."""
        assert self._output is not None
        del self._pending[: os.write(self._output, self._pending[:CHUNK])]

    def _read(self, descriptor: int) -> bool:
        """False: the user asked to quit."""
        try:
            data = os.read(descriptor, CHUNK)
        except OSError:  # a terminal that hung up
            data = b""
        if not data:
            self._input = None
            self._end_of_input = time.monotonic()
        if not self._keys:
            self._typed += data
            return True
        for byte in data:
            if self._escape:
                self._escape = False
                if byte in b"xX":
                    return False
                if byte in b"hH?":
                    self._pending += HELP
                elif byte in (ord("a"), ord("A"), CTRL_A):
                    self._typed.append(CTRL_A)
                else:
                    self._typed += bytes((CTRL_A, byte))
            elif byte == CTRL_A:
                self._escape = True
            else:
                self._typed.append(byte)
        return True

    def _offer(self, serial: Serial) -> None:
        if self._end_of_input is not None and not self._typed and time.monotonic() >= self._end_of_input:
            self._typed.append(CTRL_D)
            self._end_of_input = time.monotonic() + END_OF_INPUT_AGAIN
        if self._typed:
            del self._typed[: serial.offer(bytes(self._typed))]

    def _flush(self, serial: Serial, over: Over, patience: float | None) -> Over:
        """Writes what is left; a reader who takes nothing is waited for until `patience`, forever if None."""
        more = True
        while more or self._pending:
            more = self._drain(serial)
            if not self._pending or self._output is None:
                continue
            if patience is not None and time.monotonic() >= patience:
                break
            poll = select.poll()
            poll.register(self._output, select.POLLOUT)
            left = None if patience is None else max(0.0, patience - time.monotonic()) * 1000
            try:
                if poll.poll(left):
                    self._write()
            except BrokenPipeError:
                return Over.CLOSED
        return over
