"""A connection to the agent of a guest: frames both ways, by the guest's vsock (vsock.h, guests/agent/wire.h)."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

from corral.backends.vsock_greeting import FRAME as HEADER
from corral.backends.vsock_greeting import PORT
from corral.errors import CorralError, GuestError, GuestTimeout

VERSION = 1
MOST = 65536  # bytes of a frame's payload
_HELLO = struct.Struct("<12sHH")
_LINE = 32  # bytes of "OK PORT\n" at most
_AGAIN = 0.01, 0.1  # seconds between two attempts, at first and at most
PATIENCE = 30.0  # seconds in which an agent answers that has begun to

# Kinds of frames, as guests/agent/wire.h has them.
HELLO, DONE, FAILED, STARTED, OUTPUT, ERRORS, ROOM, ENDED = b"VKNpOEcQ"
RUN, READ, WRITE, STAT, LIST, MAKE, REMOVE, PACK, UNPACK, CONNECT, TIME, ALIVE, POWER_OFF = b"XRPslmxAUCTHF"
MOUNT, UNMOUNT = b"Mu"
INPUT, SIGNAL, SIZE, DATA, HOLE, ENTRY, END = b"ISWDheZ"


class AgentError(GuestError):
    """The guest's agent is not there, has gone, or speaks otherwise than it should."""


class Refused(CorralError):
    """The agent was asked for what the guest cannot do. `errno` is the guest's."""

    def __init__(self, number: int, words: str) -> None:
        self.errno = number
        super().__init__(f"{words}: {os.strerror(number)}" if words else os.strerror(number))


class Connection:
    """One request, and what comes of it. `path` is the guest's vsock socket; a guest whose agent is not there yet is
    waited for until time.monotonic() is `until`, None: it is not. Raises AgentError, GuestTimeout."""

    def __init__(self, path: str, until: float | None = None) -> None:
        self._socket = _connected(path, PORT, until)
        self._came = bytearray()
        try:
            self._socket.settimeout(_left(until) if until else PATIENCE)
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        kind, hello = self.receive()
        if kind != HELLO or len(hello) != _HELLO.size:
            raise AgentError("what answers in the guest is not Corral's agent")
        word, version, _ = _HELLO.unpack(hello)
        if word != b"corral-agent":
            raise AgentError("what answers in the guest is not Corral's agent")
        if version != VERSION:
            raise AgentError(f"the guest's agent has version {version} of the protocol, this Corral {VERSION}")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def timeout(self) -> float | None:
        """Seconds that a frame may take to come or go; None: any."""
        return self._socket.gettimeout()

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Raises AgentError, GuestTimeout, and Refused where the agent has left with a reason."""
        while not self.offer(kind, payload):
            said, why = self.receive()  # it ends with an error
            if said == FAILED:
                _refuse(why)

    def offer(self, kind: int, payload: bytes = b"") -> bool:
        """False: the agent has left; what it said before can still be received. Raises GuestTimeout."""
        assert len(payload) <= MOST
        try:
            self._socket.sendall(HEADER.pack(len(payload), kind) + payload)
        except TimeoutError:
            raise GuestTimeout("the guest's agent takes nothing any more") from None
        except OSError:
            return False
        return True

    def receive(self) -> tuple[int, bytes]:
        """The next frame: its kind and payload. Raises AgentError, GuestTimeout."""
        while (frame := self.next_frame()) is None:
            if not self.fill():
                raise AgentError("the guest's agent has gone, or the guest has ended")
        return frame

    def fill(self) -> bool:
        """Takes what has come; waits for something. False: the other side has gone."""
        try:
            piece = self._socket.recv(MOST)
        except TimeoutError:
            raise GuestTimeout("the guest's agent does not answer") from None
        except BlockingIOError:
            return True
        except OSError:
            piece = b""
        self._came += piece
        return bool(piece)

    def next_frame(self) -> tuple[int, bytes] | None:
        """Of what has come already; None: it is not whole. Raises AgentError for one that is too long."""
        if len(self._came) < HEADER.size:
            return None
        length, kind = HEADER.unpack_from(self._came)
        if length > MOST:
            raise AgentError("the guest's agent sends frames that are too long")
        end = HEADER.size + length
        if len(self._came) < end:
            return None
        payload = bytes(self._came[HEADER.size : end])
        del self._came[:end]
        return kind, payload

    def expect(self, *kinds: int) -> tuple[int, bytes]:
        """The next frame, which is one of these. Raises Refused too."""
        kind, payload = self.receive()
        if kind == FAILED:
            _refuse(payload)
        if kind not in kinds:
            raise AgentError(f"the guest's agent answers with {chr(kind)!r}, which is no answer to that")
        return kind, payload

    def ask(self, kind: int, payload: bytes = b"") -> bytes:
        """A request that is answered with DONE; returns what comes with that."""
        self.send(kind, payload)
        return self.expect(DONE)[1]

    def detach(self) -> socket.socket:
        """The socket, whose other end is a program of the guest from now on (CONNECT)."""
        return self._socket


def _refuse(payload: bytes) -> None:
    from corral.printable import printable

    number = int.from_bytes(payload[:4], "little") & 0xFFFF
    raise Refused(number or errno.EIO, printable(payload[4:260].decode("utf-8", "replace")))


def _left(until: float) -> float:
    """Never 0, which would be not to wait at all."""
    return max(0.001, until - time.monotonic())


def _connected(path: str, port: int, until: float | None) -> socket.socket:
    """To a port of the guest."""
    pause = _AGAIN[0]
    while True:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.settimeout(_left(until) if until is not None else PATIENCE)
            one.connect(path)
            one.sendall(b"CONNECT %d\n" % port)
            if _read_line(one).startswith(b"OK "):
                return one
            why = "the guest has no agent: its system was not started with one, or is not there yet"
        except TimeoutError:
            why = "the guest does not answer: its kernel may have no vsock, or hang"
        except (FileNotFoundError, ConnectionRefusedError):
            one.close()
            raise AgentError("the guest is not running") from None
        except OSError as error:
            why = f"the guest cannot be reached: {error.strerror}"
        one.close()
        if until is None:
            raise AgentError(why)
        if time.monotonic() + pause >= until:
            raise GuestTimeout(why)
        time.sleep(pause)
        pause = min(pause * 1.5, _AGAIN[1])


def _read_line(one: socket.socket) -> bytes:
    """Byte by byte, so that nothing behind it is taken."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LINE:
        piece = one.recv(1)
        if not piece:
            break
        line += piece
    return line
