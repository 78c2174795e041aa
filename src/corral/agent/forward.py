"""TCP ports of a guest at an address of this host: a connection there goes on by the agent's vsock to the guest's own
loopback, so the guest needs no network."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from corral.agent.connection import CONNECT, Connection
from corral.errors import ConfigError, CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 256  # connections at a time; others wait
_CHUNK = 65536


class Forward:
    """A context manager: `port` of the host's `address` leads to the TCP port `inside` of the guest. 0: the host
    chooses one. A connection that the guest refuses is closed. Raises ConfigError for an address or port that cannot be
    had."""

    def __init__(
        self, connect: Callable[[], Connection], inside: int, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        if not 1 <= inside <= 65535:
            raise ConfigError(f"{inside} is no port")
        self._connect, self._inside = connect, inside
        try:
            self._listener = socket.create_server((address, port), backlog=64)
        except OSError as error:
            raise ConfigError(
                f"{address}:{port} cannot be had: {error.strerror or error}; choose another port"
            ) from error
        self.address, self.port = self._listener.getsockname()[:2]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST)
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="corral-forward", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def close(self) -> None:
        """Ends what is connected, too."""
        with self._lock:
            self._closed = True
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # accept() returns then
        self._listener.close()
        self._thread.join()

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            self._room.acquire()
            try:
                outside, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(outside,), name="corral-forward", daemon=True).start()

    def _serve(self, outside: socket.socket) -> None:
        try:
            with outside, self._connect() as connection:
                connection.ask(CONNECT, struct.pack("<H", self._inside))
                inside = connection.detach()
                inside.settimeout(None)
                with self._kept(outside), self._kept(inside):
                    back = threading.Thread(target=_pass_on, args=(inside, outside), daemon=True)
                    back.start()
                    _pass_on(outside, inside)
                    back.join()
        except (CorralError, OSError):  # the guest has no such port, or has gone: who connected is told by the close
            pass
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _kept(self, one: socket.socket):  # type: ignore[no-untyped-def]
        with self._lock:
            if self._closed:
                raise OSError
            self._open.add(one)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(one)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Until the end of what comes, which is passed on too."""
    try:
        while data := source.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
