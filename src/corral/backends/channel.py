"""The channel: a command's standard input, output and error in the guest, each apart and byte for byte, and a few words
between Corral and the guest's init. guests/init/channel.h is its other end.

A word is 8 bytes: kind, status, rows, columns, and how many bytes follow (16 bits each, little endian).
"""

from __future__ import annotations

import os
import select
import struct
import time

from corral.errors import ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.native import Event

    class PortsDevice(Protocol):
        """The device that moves the bytes of the ports (devices/virtio/ports.py)."""

        event: Event  # something is to be looked at: a state, or flushed

        def release(self) -> None:
            """Has the sources read that were held: those of a session that has not begun."""

        def flush(self) -> None:
            """Asks for a signal of `event` when all that the guest has written by now is in its sinks."""

        @property
        def flushed(self) -> bool:
            """Whether it is, or never will be, since the driver is gone."""

        def state(self, port: int) -> PortState:
            """Of one port, as it is now; also while it runs."""


PIPES, TERMINAL = "pipes", "terminal"  # what a session of the guest has: MachineConfig.channel
WORDS, INPUT, OUTPUT, ERRORS = range(4)  # ports
NAMES = ("corral.words", "corral.stdin", "corral.stdout", "corral.stderr")

_WORD = struct.Struct("<BBHHH")
_SIZE, _END, _ARRIVED, _ASKS, _BEGIN, _KILL = b"SEARBK"
# Random bytes; the time, seconds since 1970 and nanoseconds; a host name, a machine id; network cards.
_BEGINNING = struct.Struct("<64sqq64s16s96s")
_CARD = struct.Struct("<6sBx4s")
MOST_CARDS = 8  # that a guest is told of
MOST_COMMAND = 60_000  # bytes
LONGEST_NAME = 64  # bytes of a host name (sethostname(2))
_PACKETS = os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe that keeps words apart (pipe(2))
_PACKET = 4096  # bytes of one at most
_MOST_WORDS = 64  # that are looked at in one go: a guest may send them without an end


@record(frozen=True)
class Port:
    """A port with that name. What a program of the guest reads there comes from the descriptor `source`, what it writes
    goes to `sink`; None for neither. The descriptors stay the caller's."""

    name: str
    source: int | None = None
    sink: int | None = None


@record(frozen=True)
class PortState:
    """`open`: by a program of the guest. `sink_error`: the errno for which the sink gets no more, EPIPE when its reader
    is gone; 0: it is well. Bytes: `taken` from the source, `written` to the sink, `dropped` since there was none."""

    open: bool
    sink_error: int
    taken: int
    written: int
    dropped: int


@record(frozen=True)
class Identity:
    """What tells a guest from others that go on from the same snapshot: a host name, 16 bytes of a machine id, and of
    each network card the MAC, its address of IPv4 and the bits of its prefix; zeros for what it keeps. Raises
    ConfigError."""

    name: str
    machine: bytes
    cards: tuple[tuple[bytes, bytes, int], ...] = ()

    def __post_init__(self) -> None:
        letters = self.name.replace("-", "").replace(".", "")
        if not (letters.isascii() and letters.isalnum()) or len(self.name) > LONGEST_NAME:
            raise ConfigError(f"the name {self.name!r} is none of a host: at most {LONGEST_NAME} of a-z, 0-9, - and .")
        if len(self.cards) > MOST_CARDS:
            raise ConfigError(f"a guest of so many network cards ({len(self.cards)}) cannot be told of them")


def named(name: str, cards: tuple[tuple[bytes, bytes, int], ...] = ()) -> Identity:
    """With a machine id of its own."""
    return Identity(name, os.urandom(16), cards)


def beginning(identity: Identity | None) -> bytes:
    """What a guest is told that no other has: random bytes, the time, a name and a machine id (struct beginning of
    guests/init/identity.h). None: it keeps its name."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    known = (b"", b"", b"")
    if identity:
        cards = b"".join(_CARD.pack(mac, prefix, address) for mac, address, prefix in identity.cards)
        known = identity.name.encode(), identity.machine, cards
    return _BEGINNING.pack(os.urandom(64), seconds, rest, *known)


@record(frozen=True)
class ChannelState:
    """`asked`: the guest has asked what its session is; `told`: it has the answer; `ended`: the session's status, None:
    it goes on; `answered`: the guest knows that all it wrote has arrived; `unread`: words that it has not read. Streams
    are not part of it, and what they have not taken is still in the guest."""

    asked: bool
    told: bool
    ended: int | None
    answered: bool
    unread: bytes

    @property
    def is_ready(self) -> bool:
        """Whether the guest waits for its session, and can be given any command."""
        return self.asked and not self.told


class Channel:
    """The host's end. `streams`: the descriptors that the command's input, output and error are; they stay the
    caller's. Without them the guest's session is on its console. `size` gives the terminal's rows and columns.
    `command` is a line for the guest's shell, None: the session is a shell. `identity` is what the guest is to be
    called, None: it keeps its name. Raises ConfigError for a command that is too long."""

    def __init__(
        self,
        streams: tuple[int, int, int] | None = None,
        size: Callable[[], tuple[int, int]] = lambda: (0, 0),
        command: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        self._identity = identity
        self.waits = False  # the session is not to begin yet
        self._command = None if command is None else os.fsencode(command)
        if self._command and len(self._command) > MOST_COMMAND:
            raise ConfigError(f"the command has {len(self._command)} bytes, at most {MOST_COMMAND}; make it a script")
        source, self._to_guest = os.pipe2(_PACKETS)
        self._from_guest, sink = os.pipe2(_PACKETS)
        self._descriptors = [source, self._to_guest, self._from_guest, sink]
        self._size = size
        self._source = source
        self.before_session: Callable[[], object] = _nothing  # when the guest asks what its session is
        self._unread = bytearray()  # words that are not with the device yet
        self._signals: list[int] = []  # that the session's process is to get
        self._untold = False  # the terminal has another size than the guest knows
        self._asked = self._told = False  # the guest has asked what its session is, and knows
        self._ended: int | None = None  # the status, once the guest has told it
        self._answered = False
        self.status: int | None = None  # when all that the command wrote has arrived
        self.ports = [Port(NAMES[WORDS], source, sink)]
        if streams:
            input, output, errors = streams
            self.ports.append(Port(NAMES[INPUT], source=input))
            self.ports += [Port(NAMES[OUTPUT], sink=output), Port(NAMES[ERRORS], sink=errors)]
        self.device: PortsDevice | None = None  # as soon as there is a machine with it

    def close(self) -> None:
        """After the device."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def save(self) -> ChannelState:
        """While the device is stopped."""
        while self._take_word():
            pass
        unread = b""
        while piece := _read(self._source, _PACKET):
            unread += piece
        self._unread[:0] = unread
        return ChannelState(self._asked, self._told, self._ended, self._answered, bytes(self._unread))

    def restore(self, state: ChannelState) -> None:
        """Before the device starts. A session goes on with random bytes and a time of its own."""
        self._asked, self._told, self._answered = state.asked, state.told, state.answered
        self._ended = None if state.ended is None else state.ended & 0xFF
        self._unread[:] = state.unread
        if self._told and self._ended is None:
            self._send(_BEGIN, *self._size(), beginning(self._identity))
        if self._told and self.device:
            self.device.release()

    def resized(self) -> None:
        """The terminal's size has changed. Also from a signal handler."""
        self._untold = True
        if self.device:
            self.device.event.signal()

    @property
    def has_begun(self) -> bool:
        """Whether the guest knows what its session is."""
        return self._told

    def signal(self, number: int) -> None:
        """For the session's process. Also from a signal handler."""
        self._signals.append(number)
        if self.device:
            self.device.event.signal()

    def watched(self) -> dict[int, int]:
        """Descriptors, and what to poll() them for before serve()."""
        assert self.device
        watched = {self._from_guest: select.POLLIN, self.device.event.value: select.POLLIN}
        if self._unread or self._untold or self._owes_answer or self._may_begin:
            watched[self._to_guest] = select.POLLOUT
        return watched

    def serve(self) -> None:
        """Does what can be done without waiting."""
        assert self.device
        self.device.event.clear()
        for _ in range(_MOST_WORDS):
            if not self._take_word():
                break
        if self._may_begin:
            self.before_session()
            self._begin_session()
        if self._untold and self._told and not self._unread:
            self._send(_SIZE, *self._size())
            self._untold = False
        while self._signals and self._told:
            self._send(_KILL, status=self._signals.pop(0))
        if self._owes_answer:
            self.status = self._ended
            self._send(_ARRIVED)
            self._answered = True
        self._write()

    def finish(self, patience: float | None) -> bool:
        """Waits until what the guest wrote before it was stopped is with its readers; until time.monotonic() is
        `patience`, if that is not None: False."""
        assert self.device
        self.device.flush()
        poll = select.poll()
        poll.register(self.device.event.value, select.POLLIN)
        while not self.device.flushed and not self.failure:
            left = None if patience is None else max(0.0, patience - time.monotonic()) * 1000
            if not poll.poll(left):
                return False
            self.serve()
        self.serve()
        return True

    @property
    def failure(self) -> tuple[str, int] | None:
        """The stream that cannot be written any more, and the errno; EPIPE when its reader is gone."""
        assert self.device
        for port in range(OUTPUT, len(self.ports)):
            if error := self.device.state(port).sink_error:
                return ("standard output" if port == OUTPUT else "standard error"), error
        return None

    @property
    def defers_input(self) -> bool:
        """Whether nothing may be typed to the guest yet: it is to be saved as it is when it asks for its session."""
        return self.before_session is not _nothing and not self._told

    @property
    def is_over(self) -> bool:
        """Whether a command with streams has ended, and all that it wrote has arrived: what its guest does after that,
        whose files are synced, is to reset."""
        return self.status is not None and len(self.ports) > 1

    @property
    def is_ready(self) -> bool:
        """Whether the guest waits to be told what its session is."""
        return self._asked and not self._told

    @property
    def _may_begin(self) -> bool:
        return self.is_ready and not self.waits

    @property
    def _owes_answer(self) -> bool:
        assert self.device
        return self._ended is not None and not self._answered and self.device.flushed

    def _take_word(self) -> bool:
        """False: there is none at present."""
        assert self.device
        word = self._receive()
        if word and word[0] == _END and self._ended is None:
            self._ended = word[1]
            self.device.flush()
        if word and word[0] == _ASKS:
            self._asked = True
        return word is not None

    def _begin_session(self) -> None:
        """Tells the guest what its session is, and what no other guest has that goes on from the same snapshot."""
        self._send(_BEGIN, *self._size(), beginning(self._identity) + (self._command or b""), self._command is not None)
        self._told, self._untold = True, False
        if self.device:
            self.device.release()

    def _send(self, kind: int, rows: int = 0, columns: int = 0, text: bytes = b"", status: int = 0) -> None:
        self._unread += _WORD.pack(kind, status, rows, columns, len(text)) + text

    def _write(self) -> None:
        """As much as the guest has room for."""
        try:
            while self._unread:
                del self._unread[: os.write(self._to_guest, self._unread[:_PACKET])]
        except BlockingIOError:
            pass

    def _receive(self) -> tuple[int, int] | None:
        """Kind and status. What is no word of init's is as good as none of these."""
        data = _read(self._from_guest, _WORD.size + 1)
        return None if not data else (data[0], data[1]) if len(data) == _WORD.size else (0, 0)


def _nothing() -> None:
    """What is done before a session unless something else is to be."""


def _read(descriptor: int, most: int) -> bytes:
    try:
        return os.read(descriptor, most)
    except BlockingIOError:
        return b""


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; 0 where it is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns
