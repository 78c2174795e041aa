"""What other commands ask of a guest that has a name: a socket in its folder, which its process serves beside its
console.

A client says one word and a newline: `pause`, `resume`, `state`, `counters`, `power-button`, `snapshot` with the
descriptor of an empty file (SCM_RIGHTS), `attach`, or one of `words`, of `streams` or, with such a descriptor, of
`file_words`, which may have more behind a blank. The answer is a line, `ok` and what there is to tell, or `error` and
why. After `ok` to `attach` what the guest says on its console comes, and what is sent is typed there; after `ok` to one
of `streams` what that has to tell comes.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import sys

from corral.errors import ConfigError, CorralError
from corral.running import counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.machine import Machine
    from corral.native import Event

    class Stream(Protocol):
        """What a client gets as it comes. take() gives some of it; b"": there is none at present."""

        def take(self) -> bytes: ...
        def close(self) -> None: ...

    class Streams(Protocol):
        """Of one kind. `event` is signalled when one of them has something."""

        event: Event

        def open(self, text: bytes, /) -> Stream:
            """Raises CorralError."""


MOST_CLIENTS = 16
MOST_PENDING = 1 << 18  # bytes of the console that a client may be behind
MOST_TYPED = 1 << 16  # bytes that wait for a guest that does not listen
LONGEST = 1 << 17  # bytes of a line
_CHUNK = 4096
_FD, _HANDED = 4, 8  # bytes of a descriptor; how many may come at a time


class _Client:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.came = b""
        self.pending = bytearray()
        self.handed = -1  # a descriptor that came with it
        self.attached = False
        self.stream: Stream | None = None
        self.leaves = False  # when all that is pending is sent


class Control:
    """Serves the socket at `path`. Its methods are for the thread of the console. `typed` gets what clients type.
    In the jail it takes calls of the table's NAMED alone."""

    def __init__(self, path: str, lifeline: int | None = None) -> None:
        """`lifeline`: a descriptor of this object's; at its end the guest is dismissed."""
        self._listener = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        )
        before = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(before)
        self._listener.listen(MOST_CLIENTS)
        self._clients: dict[int, _Client] = {}
        self._lifeline = lifeline
        self.machine: Machine | None = None
        self.paused = False
        self.tail: Callable[[], bytes] = bytes  # what a client sees first
        self.words: dict[bytes, Callable[[bytes], str]] = {}  # further ones; they raise CorralError
        self.file_words: dict[bytes, Callable[[bytes, int], str]] = {}  # with a file; they raise OSError too
        self.streams: dict[bytes, Streams] = {}

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def watched(self) -> dict[int, int]:
        """Descriptors, and what to poll() them for before serve()."""
        wanted = {}
        if len(self._clients) < MOST_CLIENTS:
            wanted[self._listener.fileno()] = select.POLLIN
        if self._lifeline is not None:
            wanted[self._lifeline] = select.POLLIN
        for streams in self.streams.values():
            wanted[streams.event.value] = select.POLLIN
        for client in self._clients.values():
            wanted[client.fd] = select.POLLIN | (select.POLLOUT if client.pending else 0)
        return wanted

    def serve(self, ready: dict[int, int]) -> bytes:
        """Does what can be done without waiting; returns what was typed."""
        typed = b""
        for client in [self._clients[fd] for fd in ready if fd in self._clients]:
            if ready[client.fd] & ~select.POLLOUT:
                typed += self._read(client)
        for streams in self.streams.values():
            if streams.event.value in ready:
                streams.event.clear()
        for client in list(self._clients.values()):
            if client.stream and len(client.pending) < _CHUNK:
                client.pending += client.stream.take()
            self._write(client)
        if self._listener.fileno() in ready:
            self._accept()
        if self._lifeline is not None and self._lifeline in ready and self.machine:
            os.close(self._lifeline)
            self._lifeline = None
            self.machine.dismiss()
        return typed

    def show(self, data: bytes) -> None:
        """The guest has said that."""
        for client in list(self._clients.values()):
            if client.attached:
                client.pending += data
                if len(client.pending) > MOST_PENDING:  # it does not read; the guest does not wait for it
                    self._drop(client)
                else:
                    self._write(client)

    def _accept(self) -> None:
        try:
            # Not accept(): the object that it makes asks what it is, which the jail refuses.
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
        self._clients[fd] = _Client(fd)

    def _drop(self, client: _Client) -> None:
        for fd in (client.fd, client.handed):
            if fd >= 0:
                os.close(fd)
        del self._clients[client.fd]
        if client.stream:
            client.stream.close()

    def _read(self, client: _Client) -> bytes:
        """What it has typed."""
        try:
            data = os.read(client.fd, _CHUNK) if client.attached or client.stream else _received(client)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return b""
        if client.attached:
            return data
        if client.stream:
            return b""
        client.came += data
        word, newline, rest = client.came.partition(b"\n")
        if newline and not client.leaves:
            self._answer(client, word)
            return rest if client.attached else b""
        if len(client.came) > LONGEST:
            self._drop(client)
        return b""

    def _answer(self, client: _Client, word: bytes) -> None:
        said = "ok"
        try:
            if self.machine is None:
                said = "error the guest is not there yet"
            elif word == b"attach":
                client.attached = True
            elif word == b"pause":
                self.machine.pause()
                self.paused = True
            elif word == b"resume":
                self.machine.resume()
                self.paused = False
            elif word == b"snapshot":
                said = f"ok {self._save(self.machine, _handed(client))}"
            elif word == b"power-button":
                self.machine.ask_to_end()
            elif word == b"counters":
                said = f"ok {counters.text(self.machine)}"
            elif word == b"state":
                said = f"ok {'paused' if self.paused else 'running'}"
            elif (first := word.partition(b" "))[0] in self.words:
                said = f"ok {self.words[first[0]](first[2])}"
            elif first[0] in self.file_words:
                said = f"ok {self.file_words[first[0]](first[2], _handed(client))}"
            elif first[0] in self.streams:
                client.stream = self.streams[first[0]].open(first[2])
            else:
                said = "error there is no such word"
        except CorralError as error:
            said = f"error {error}"
        except OSError as error:
            said = f"error the file cannot be written: {error.strerror}"
        client.pending += f"{said}\n".encode()
        if client.attached:
            client.pending += self.tail()
        client.leaves = not client.attached and not client.stream

    def _save(self, machine: Machine, fd: int) -> int:
        from corral.snapshot import resumed

        machine.pause()
        try:
            return resumed.save_into(machine, fd)
        finally:
            if not self.paused:
                machine.resume()

    def _write(self, client: _Client) -> None:
        try:
            while client.pending:
                del client.pending[: os.write(client.fd, client.pending[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if client.leaves:
            self._drop(client)


def _handed(client: _Client) -> int:
    if client.handed < 0:
        raise ConfigError("no file came with that")
    return client.handed


def _received(client: _Client) -> bytes:
    """What has come, and the descriptor that it brings; of more the last."""
    one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, client.fd)
    try:
        data, extras, _, _ = one.recvmsg(_CHUNK, _socket.CMSG_SPACE(_HANDED * _FD), _socket.MSG_CMSG_CLOEXEC)
    finally:
        one.detach()
    for level, kind, brought in extras:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            for at in range(0, len(brought) - _FD + 1, _FD):
                if client.handed >= 0:
                    os.close(client.handed)
                client.handed = int.from_bytes(brought[at : at + _FD], sys.byteorder)
    return data


def ask(path: str, word: str, patience: float = 5.0, fd: int | None = None) -> str:
    """One word to the guest at this socket, with a descriptor, and its answer. Raises CorralError for an error."""
    import socket

    from corral.errors import GuestTimeout, HostError

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(patience)
        answer = b""
        try:
            one.connect(path)
            if fd is None:
                one.sendall(f"{word}\n".encode())
            else:
                socket.send_fds(one, [f"{word}\n".encode()], [fd])
            while not answer.endswith(b"\n") and (piece := one.recv(_CHUNK)):
                answer += piece
        except TimeoutError:
            raise GuestTimeout("the guest's process does not answer") from None
        except OSError as error:
            raise HostError(
                f"the guest's process cannot be asked: {error.strerror}; corral ps tells whether it runs"
            ) from error
    kind, _, text = answer.decode("utf-8", "replace").strip().partition(" ")
    if kind != "ok":
        raise HostError(text or "the guest's process has ended")
    return text
