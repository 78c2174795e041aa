"""The far end of the guest's serial line: file descriptors of this process, and when to stop looking after them."""

from __future__ import annotations

import enum
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.devices.serial import Serial


class Over(enum.Enum):
    """Why serve() came back."""

    ENDED = "the guest ended"
    TIMEOUT = "the time is over"
    QUIT = "the user asked to quit"


class Console:
    """Copies what the guest sends to `output`. A None output drops it (but still drains the line)."""

    def __init__(self, output: int | None = None) -> None:
        self._output = output

    def serve(self, serial: Serial, ended: int, timeout: float | None) -> Over:
        """Works until `ended` (a descriptor) is readable or `timeout` seconds are over; then empties the line."""
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(serial.fileno(), select.POLLIN)
        over = Over.TIMEOUT
        while deadline is None or time.monotonic() < deadline:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {fd for fd, _ in poll.poll(left)}
            if serial.fileno() in ready:
                self._write(serial.drain())
            elif ended in ready:
                over = Over.ENDED
                break
        while rest := serial.drain():
            self._write(rest)
        return over

    def _write(self, data: bytes) -> None:
        if self._output is None:
            return
        while data:
            data = data[os.write(self._output, data) :]
