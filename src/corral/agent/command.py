"""A command in a guest: started, fed, listened to, signalled and waited for."""

from __future__ import annotations

import os
import signal
import struct
import time

from corral.agent.connection import (
    ENDED,
    ERRORS,
    FAILED,
    INPUT,
    MOST,
    OUTPUT,
    ROOM,
    RUN,
    SIGNAL,
    SIZE,
    STARTED,
    AgentError,
    Connection,
    Refused,
)
from corral.core import waiting
from corral.errors import ConfigError, GuestTimeout
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FIRST_ROOM = 64 * 1024  # bytes of input that the agent keeps (guests/agent/run.h)
EXITED, SIGNALLED, OUT_OF_TIME, TOO_MUCH_OUTPUT = range(4)
_TLV = struct.Struct("<cI")
_LATE = 10.0  # seconds after its time that the agent has to tell of the command's end


@record(frozen=True)
class Wanted:
    """A command: `line` is for /bin/sh, or `words` are the program and its arguments. `environment` is added to PATH,
    HOME, USER and SHELL. `terminal`: rows and columns of one; None: pipes. `timeout` in seconds and `most_output` in
    bytes end it with all that it has started; 0: no limit. Raises ConfigError."""

    words: tuple[str, ...] = ()
    line: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    folder: str | None = None
    user: str = ""
    terminal: tuple[int, int] | None = None
    timeout: float = 0.0
    most_output: int = 0

    def __post_init__(self) -> None:
        if bool(self.words) == (self.line is not None):
            raise ConfigError("a command is a line for the shell, or a program and its arguments; there is neither")
        if len(self.request()) > MOST:
            raise ConfigError(f"the command and its environment have more than {MOST} bytes; make it a script")

    def request(self) -> bytes:
        parts = [(b"a", os.fsencode(word)) for word in self.words]
        parts += [(b"l", os.fsencode(self.line))] if self.line is not None else []
        parts += [(b"e", os.fsencode(f"{name}={value}")) for name, value in self.environment]
        parts += [(b"w", os.fsencode(self.folder))] if self.folder is not None else []
        parts += [(b"u", os.fsencode(self.user))] if self.user else []
        if self.terminal is not None:
            parts.append((b"t", _size(*self.terminal)))
        if self.timeout:
            parts.append((b"T", max(1, int(self.timeout * 1000)).to_bytes(8, "little")))
        if self.most_output:
            parts.append((b"o", self.most_output.to_bytes(8, "little")))
        if any(b"\0" in value for tag, value in parts if tag in b"alewu"):
            raise ConfigError("a command has a NUL byte in it")
        return b"".join(_TLV.pack(tag, len(value)) + value for tag, value in parts)


def wanted(
    command: str | Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str = "",
    terminal: tuple[int, int] | None = None,
    timeout: float | None = None,
    most_output: int = 0,
) -> Wanted:
    """A Wanted of what a script has: a text is a line for the shell."""
    words, line = ((), command) if isinstance(command, str) else (tuple(map(str, command)), None)
    variables = tuple((env or {}).items())
    return Wanted(words, line, variables, cwd, user, terminal, timeout or 0.0, most_output)


@record(frozen=True)
class End:
    """How a command ended: its exit `status`, or minus the signal that did it. `out_of_time`, `too_much`: it was
    killed, with all that it had started, by its limits."""

    status: int
    out_of_time: bool = False
    too_much: bool = False


class RunningCommand:
    """One that runs. Input is sent as far as the guest has room; what it writes comes to `on_output` (1: standard
    output, 2: errors; with a terminal all is 1). Ends with the connection, with all that it has started. Raises Refused
    where it cannot be started, AgentError, GuestTimeout."""

    def __init__(self, connection: Connection, command: Wanted, on_output: Callable[[int, bytes], object]) -> None:
        self._connection, self._on_output = connection, on_output
        self._waiting = bytearray()  # input
        self._room = FIRST_ROOM
        self._input_over = self._told_over = False
        self.end: End | None = None
        self._until = time.monotonic() + command.timeout + _LATE if command.timeout else None
        connection.send(RUN, command.request())
        _, pid = connection.expect(STARTED)
        self.pid = int.from_bytes(pid, "little")  # in the guest
        connection.timeout = None
        self._take_frames()  # they may have come with that

    def close(self) -> None:
        """Whatever of it still runs is killed."""
        self._connection.close()

    def fileno(self) -> int:
        """To be polled for reading before serve()."""
        return self._connection.fileno()

    @property
    def wants_input(self) -> bool:
        """Whether more input would be sent at once: what is given beside that waits here."""
        return not self._input_over and len(self._waiting) < FIRST_ROOM

    def give(self, data: bytes) -> None:
        """Input; b"" is its end."""
        self._waiting += data
        self._input_over |= not data
        self._push()

    def signal(self, number: int) -> None:
        """To the command's process group."""
        if self.end is None:
            self._connection.offer(SIGNAL, bytes((number,)))

    def resize(self, rows: int, columns: int) -> None:
        if self.end is None:
            self._connection.offer(SIZE, _size(rows, columns))

    def serve(self) -> None:
        """Takes what has come, after waiting for it."""
        if not self._connection.fill() and self.end is None:
            raise AgentError("the guest's agent has gone, or the guest has ended, before the command did")
        self._take_frames()

    def _take_frames(self) -> None:
        while self.end is None and (frame := self._connection.next_frame()):
            self._take(*frame)

    def wait(self, until: float | None = None) -> End:
        """Serves until the command has ended. Raises GuestTimeout when time.monotonic() is `until`."""
        while self.end is None:
            moments = [moment for moment in (until, self._until) if moment is not None]
            if not ready_to_read(self, min(moments, default=None)):
                raise GuestTimeout("the command did not end in time")
            self.serve()
        return self.end

    def _take(self, kind: int, payload: bytes) -> None:
        if kind in (OUTPUT, ERRORS):
            self._on_output(1 if kind == OUTPUT else 2, payload)
        elif kind == ROOM and len(payload) == 4:
            self._room = min(FIRST_ROOM, self._room + int.from_bytes(payload, "little"))
            self._push()
        elif kind == ENDED and len(payload) == 8:
            how, number = struct.unpack("<II", payload)
            killed = how != EXITED
            self.end = End(-(number & 0x7F) if killed else number & 0xFF, how == OUT_OF_TIME, how == TOO_MUCH_OUTPUT)
        elif kind == FAILED:
            raise Refused(int.from_bytes(payload[:4], "little") & 0xFFFF, "the agent gave up")
        else:
            raise AgentError(f"the guest's agent says {chr(kind)!r} of a command, which means nothing")

    def _push(self) -> None:
        if self.end is not None:
            return
        while self._waiting and self._room:
            piece = bytes(self._waiting[: min(self._room, MOST)])
            self._connection.offer(INPUT, piece)
            self._room -= len(piece)
            del self._waiting[: len(piece)]
        if self._input_over and not self._waiting and not self._told_over:
            self._connection.offer(INPUT)
            self._told_over = True


def ready_to_read(one: RunningCommand, until: float | None) -> bool:
    """Waits until something comes, or time.monotonic() is `until`."""
    return bool(waiting.wait_for({one.fileno(): waiting.READABLE}, until))


def _size(rows: int, columns: int) -> bytes:
    return struct.pack("<HH", rows & 0xFFFF, columns & 0xFFFF)


def signal_number(text: str) -> int:
    """From "TERM", "SIGTERM" or "15". Raises ConfigError."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 65:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = getattr(signal, name, None)
    if not isinstance(number, int):
        raise ConfigError(f"{text!r} is no signal; write it like TERM or 15")
    return int(number)
