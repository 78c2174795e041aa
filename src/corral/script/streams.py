"""A guest's session, for a script: words with its init, and what a command reads and writes, each stream apart."""

from __future__ import annotations

import os
import select
import time

from corral.backends.channel import PIPES, Channel, Identity
from corral.core.waiting import READABLE, wait_for
from corral.errors import ClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig

MOST = 16 << 20  # bytes of each that are kept; of more, the last
LOOK = 0.01  # seconds after which it is looked again whether all has come
_PIECE = 64 * 1024
_OURS = os.O_NONBLOCK | os.O_CLOEXEC


class Words(Channel):
    """The channel of a session on the console. It is served while run_until() or wait() are at work."""

    def __init__(
        self, streams: tuple[int, int, int] | None = None, command: str | None = None, identity: Identity | None = None
    ) -> None:
        super().__init__(streams, command=command, identity=identity)
        self._ready = select.epoll()
        self._ready.register(self._from_guest, select.EPOLLIN)

    def close(self) -> None:
        self._ready.close()
        super().close()

    def offer(self) -> bool:
        """Sends what waits. True: some of it waits still."""
        return bool(self._unread)

    def watch(self) -> int:
        """A descriptor to poll, the caller's to close: readable when drain() has something to do."""
        if self._ready.closed:
            raise ClosedError("this machine is closed")
        if self.device:
            try:
                self._ready.register(self.device.event.value, select.EPOLLIN)
            except FileExistsError:  # since an earlier call
                pass
        return os.dup(self._ready.fileno())

    def drain(self) -> bool:
        """Serves the channel, and takes what was written. False: nothing new was."""
        if self._ready.closed:
            return False
        if self.device:
            self.serve()
        return self._take_all()

    def drain_all(self) -> None:
        """Of a guest that is over: all that it has written."""
        assert self.device
        self.device.flush()
        while self.drain() or not self.device.flushed:
            wait_for({self.device.event.value: READABLE, self._ready.fileno(): READABLE}, time.monotonic() + LOOK)
        self.drain()

    def _take_all(self) -> bool:
        """Of streams, where there are any."""
        return False


class Streams(Words):
    """`vm.streams`, of a machine whose command has pipes. `output` and `errors` are read while wait() or run_until()
    are at work, and stay when the machine is closed."""

    def __init__(self, command: str | None = None, identity: Identity | None = None) -> None:
        input, self._typing = os.pipe2(_OURS)
        self._output, output = os.pipe2(_OURS)
        self._errors, errors = os.pipe2(_OURS)
        super().__init__((input, output, errors), command, identity)
        self._descriptors += [input, self._output, output, self._errors, errors]
        self._unsent = bytearray()
        self._ending = False  # the input ends behind what is unsent
        self._said = {self._output: bytearray(), self._errors: bytearray()}
        for descriptor in self._said:
            self._ready.register(descriptor, select.EPOLLIN)

    def __repr__(self) -> str:
        return f"<Streams: {len(self._said[self._output])} bytes of output, {len(self._said[self._errors])} of errors>"

    def close(self) -> None:
        self._close_input()
        super().close()

    @property
    def output(self) -> bytes:
        """All that the command has written to its standard output, the last 16 MiB of it at most."""
        self.drain()
        return bytes(self._said[self._output])

    @property
    def errors(self) -> bytes:
        """Likewise of its standard error."""
        self.drain()
        return bytes(self._said[self._errors])

    def send(self, data: str | bytes) -> None:
        """Input of the command; what it does not read yet is kept. Raises ClosedError."""
        if self._ready.closed or self._ending:
            raise ClosedError("this command's input is closed")
        self._unsent += data.encode() if isinstance(data, str) else data
        self.offer()

    def end(self) -> None:
        """Ends the input behind what was sent."""
        self._ending = True
        self.offer()

    def offer(self) -> bool:
        """Sends what waits. True: some of it waits still."""
        try:
            while self._unsent and self._typing >= 0:
                del self._unsent[: os.write(self._typing, self._unsent[:_PIECE])]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._unsent.clear()
        if self._ending:
            self._close_input()
        return super().offer()

    def _take_all(self) -> bool:
        return self._take(self._output) | self._take(self._errors)

    def _take(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, _PIECE)
        except BlockingIOError:
            return False
        said = self._said[descriptor]
        said += data
        del said[: max(0, len(said) - MOST)]
        return bool(data)

    def _close_input(self) -> None:
        if self._typing >= 0:
            os.close(self._typing)
            self._typing = -1


def session_of(config: MachineConfig, identity: Identity | None) -> Words | None:
    """The channel of a machine that has one."""
    if config.channel == PIPES:
        return Streams(config.command, identity)
    return Words(None, config.command, identity) if config.channel else None
