"""The sockets of the API: who is connected, what each has sent, and what each is still to be sent. One thread, poll(2);
the table of routes is above (routes.py).

Clients are hostile: each has a bound on what it may have sent and may have to read, and on the time for a request and
for its answer. Where there are MOST_CLIENTS, the next takes the place of the one that has been idle for longest.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import stat
import time

from corral.api import messages
from corral.api.fault import Fault
from corral.api.messages import Answer
from corral.core.waiting import GONE, READABLE, WRITABLE
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Job(Protocol):
        """An answer that is still to come."""

        def fileno(self) -> int:
            """Readable when it is there."""

        def finish(self) -> Answer:
            """Closes it, too."""


MOST_CLIENTS = 32
PATIENCE = 10.0  # seconds for a request that has begun, and for a reader who stands still
_CHUNK = 65536


class _Client:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.reader = messages.Reader()
        self.request: messages.HttpRequest | None = None  # that is waited with
        self.job: Job | None = None
        self.pending = bytearray()  # to be sent
        self.ended = False  # it sends no more
        self.leaves = False  # when all is sent
        self.discards = False  # what still comes, so that the answer is not lost with the connection
        self.since = time.monotonic()  # the last that it, or its answer, has got on

    @property
    def is_busy(self) -> bool:
        return self.job is not None or self.request is not None


class ApiServer:
    """At `path`, for its user alone. `answer` is given each request in turn: an Answer, a Job for one that takes a
    while, or None: not now, ask again. Raises ConfigError where somebody listens."""

    def __init__(self, path: str, answer: Callable[[messages.HttpRequest], Answer | Job | None]) -> None:
        self.path = path
        self._answer = answer
        self._listener = _listen(path)
        self._clients: dict[int, _Client] = {}
        self._orphans: list[Job] = []  # they go on, and have no client any more

    def close(self) -> None:
        """The socket's name goes with it."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self._listener.fileno() >= 0:
            self._listener.close()
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass

    def forget(self) -> None:
        """In a process that was forked: closes the descriptors, and nothing else."""
        for client in self._clients.values():
            os.close(client.fd)
        self._clients.clear()
        self._listener.close()

    def watched(self) -> dict[int, int]:
        """Descriptors, and what to poll() them for before serve()."""
        wanted = {self._listener.fileno(): READABLE} | {job.fileno(): READABLE for job in self._orphans}
        for client in self._clients.values():
            if client.job:
                wanted[client.job.fileno()] = READABLE
            reads = client.discards or (not client.leaves and client.reader.room > 0)
            reads = reads and not client.ended
            wanted[client.fd] = (READABLE if reads else 0) | (WRITABLE if client.pending else 0)
        return wanted

    def until(self) -> float | None:
        """When, by time.monotonic(), somebody's patience is over."""
        waits = [one.since for one in self._clients.values() if self._is_due(one)]
        return min(waits) + PATIENCE if waits else None

    @staticmethod
    def _is_due(client: _Client) -> bool:
        return bool(client.pending) or client.discards or (client.reader.begun and not client.is_busy)

    def serve(self, ready: dict[int, int]) -> None:
        """Does what can be done without waiting."""
        for job in [one for one in self._orphans if one.fileno() in ready]:
            self._orphans.remove(job)
            job.finish()
        for client in list(self._clients.values()):
            events = ready.get(client.fd, 0)
            if events & (READABLE | GONE):
                self._read(client, gone=not events & READABLE)
        for client in list(self._clients.values()):
            if client.job and client.job.fileno() in ready:
                job, client.job = client.job, None
                self._tell(client, job.finish(), client.request)
                client.request = None
            self._go_on(client)
        for client in list(self._clients.values()):  # one that came behind may have had another wait
            if client.request is not None and client.job is None:
                self._go_on(client)
        if self._listener.fileno() in ready:
            self._accept()
        now = time.monotonic()
        for client in list(self._clients.values()):
            if self._is_due(client) and now - client.since >= PATIENCE:
                if not client.pending and not client.leaves:
                    self._tell(client, messages.refusal(Fault("The request did not come to its end.", 408)), None)
                    self._write(client)
                self._drop(client)

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
        idle = [one for one in self._clients.values() if not one.is_busy]
        if len(self._clients) >= MOST_CLIENTS:
            if not idle:
                os.close(fd)
                return
            self._drop(min(idle, key=lambda one: one.since))
        self._clients[fd] = _Client(fd)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.fd, None) is None:
            return
        os.close(client.fd)
        if client.job:
            self._orphans.append(client.job)

    def _read(self, client: _Client, gone: bool) -> None:
        try:
            data = b"" if gone else os.read(client.fd, min(_CHUNK, max(1, client.reader.room)))
        except BlockingIOError:
            return
        except OSError:
            data, gone = b"", True
        if gone:
            self._drop(client)
        elif client.discards:
            client.ended = not data
        elif data:
            if not client.reader.begun:
                client.since = time.monotonic()
            client.reader.feed(data)
        else:
            client.ended = True

    def _go_on(self, client: _Client) -> None:
        """As far as it gets: one request after the other, each when the answer before it has been taken."""
        while client.fd in self._clients:
            self._write(client)
            if client.fd not in self._clients or client.pending or client.job:
                return
            if client.leaves:
                if not client.discards or client.ended:
                    self._drop(client)
                return
            if client.request is None and not self._next(client):
                if client.ended and not client.pending:
                    self._drop(client)
                    return
                if not client.pending:
                    return
                continue
            if client.request is not None:
                answer = self._answer(client.request)
                if answer is None:
                    return
                if not isinstance(answer, Answer):
                    client.job = answer
                    return
                self._tell(client, answer, client.request)
                client.request = None

    def _next(self, client: _Client) -> bool:
        """Whether there is another request. A word to the client may be pending after it."""
        try:
            client.request = client.reader.next()
        except Fault as fault:
            self._tell(client, messages.refusal(fault), None)
            client.discards = True
            return False
        if client.request is None and client.reader.wants_continue:
            client.reader.wants_continue = False
            client.pending += messages.CONTINUE
        return client.request is not None

    def _tell(self, client: _Client, answer: Answer, request: messages.HttpRequest | None) -> None:
        stays = request is not None and request.stays
        client.pending += messages.encoded(answer, stays, request is not None and request.method == "HEAD")
        client.leaves = not stays
        client.since = time.monotonic()

    def _write(self, client: _Client) -> None:
        try:
            while client.pending:
                del client.pending[: os.write(client.fd, client.pending[:_CHUNK])]
                client.since = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)


def _listen(path: str) -> _socket.socket:
    """Takes over the socket that a killed process has left. Raises ConfigError."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except OSError:
            if not _is_left(path):
                raise
            os.unlink(path)
            listener.bind(path)
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise ConfigError(f"cannot listen at {path!r}: {why}; name another path for the API's socket") from None
    finally:
        os.umask(before)
    return listener


def _is_left(path: str) -> bool:
    """Whether it is a socket that nothing listens at: to connect to a file is refused, too."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        one.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        one.close()
    return False
