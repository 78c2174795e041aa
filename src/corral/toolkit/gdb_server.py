"""Where gdb connects: an address, a listening socket, and a thread that serves one gdb after the other."""

from __future__ import annotations

import os
import select
import socket
import threading

from corral.errors import ConfigError, HostError
from corral.toolkit.debugger import Debugger
from corral.toolkit.gdb_packets import Closed, Packets
from corral.toolkit.gdb_stub import Detached, GdbStub, Killed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine

LOOPBACK = "127.0.0.1"


def parse(where: str) -> str | tuple[str, int]:
    """`unix:PATH`, `:PORT` on the loopback interface, or `ADDRESS:PORT`. Raises ConfigError."""
    kind, _, rest = where.partition(":")
    if kind == "unix" and rest:
        return rest
    address, colon, port = where.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 1 << 16:
        raise ConfigError(f"--gdb {where!r} is no address; write it like :1234 or unix:/tmp/gdb")
    return address or LOOPBACK, int(port)


def listen(where: str) -> socket.socket:
    """At what parse() takes. Raises ConfigError, HostError."""
    address = parse(where)
    try:
        if isinstance(address, str):
            listener = socket.socket(socket.AF_UNIX)
            old = os.umask(0o177)  # whoever can connect owns the guest
            try:
                listener.bind(address)
            finally:
                os.umask(old)
        else:
            listener = socket.socket(socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        listener.listen(1)
    except OSError as error:
        raise HostError(f"--gdb cannot listen at {where!r}: {error.strerror}; choose another address") from error
    return listener


class GdbServer:
    """A context manager over a machine that has not started: it waits for gdb before its first instruction. Without a
    gdb, later, the guest runs on, and another may come."""

    def __init__(self, machine: Machine, listener: socket.socket) -> None:
        self._machine = machine
        self._listener = listener
        self._debugger = Debugger(machine)
        self._over_reader, self._over = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._main, name="gdb", daemon=True)
        self._failure: BaseException | None = None
        self._connection: socket.socket | None = None

    def __enter__(self) -> GdbServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """The machine has stopped. Raises what serving failed with."""
        os.close(self._over)
        self._debugger.interrupt()
        if self._connection:
            try:
                self._connection.shutdown(socket.SHUT_RD)  # ends a read; gdb still gets the last answer
            except OSError:
                pass
        self._thread.join()
        self._debugger.close()
        os.close(self._over_reader)
        if self._failure:
            raise self._failure

    def _main(self) -> None:
        try:
            while self._accept():
                self._serve()
        except BaseException as error:
            self._failure = error
            self._machine.dismiss()

    def _accept(self) -> bool:
        """Waits for a gdb. False: the machine is over."""
        ready, _, _ = select.select([self._listener.fileno(), self._over_reader], [], [])
        if self._over_reader in ready:
            return False
        self._connection, _ = self._listener.accept()
        if self._connection.family == socket.AF_INET:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def _serve(self) -> None:
        assert self._connection
        self._debugger.pause()
        try:
            GdbStub(self._debugger, Packets(self._connection)).serve()
        except (Closed, Detached):
            pass
        except Killed:
            self._machine.dismiss()
        finally:
            self._connection.close()
            self._connection = None
        self._debugger.points.clear()
        self._debugger.go()
