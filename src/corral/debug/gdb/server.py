"""Where gdb connects: an address, a listening socket, and a thread that serves one gdb after the other."""

from __future__ import annotations

import os
import socket
import struct
import threading

from corral.core.waiting import READABLE, wait_for
from corral.debug.debugger import Debugger
from corral.debug.gdb.packets import Closed, Packets
from corral.debug.gdb.stub import Detached, GdbStub, Killed
from corral.errors import ConfigError, HostError
from corral.native import check, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine

LOOPBACK = "127.0.0.1"
LONGEST_PATH = 107  # bytes, of a socket (unix(7))


def parse(where: str) -> str | tuple[str, int]:
    """`PATH` or `unix:PATH`, or `tcp:PORT` on the loopback interface, or `tcp:ADDRESS:PORT`. Raises ConfigError."""
    kind, colon, rest = where.partition(":")
    if kind == "tcp" and colon:
        address, _, port = rest.rpartition(":")
        if not _is_port(port):
            raise ConfigError(f"--gdb {where!r} has no port; write it like tcp:1234")
        return address or LOOPBACK, int(port)
    path = rest if kind == "unix" and colon else where
    if path == where and _is_port(path.rpartition(":")[2]):
        raise ConfigError(
            f"--gdb {where!r}: a port is open to every user of this host; write tcp:{where.lstrip(':')} if you want "
            "that, else the path of a socket, like /tmp/gdb"
        )
    if not path or len(os.fsencode(path)) > LONGEST_PATH or "\0" in path:
        raise ConfigError(f"--gdb {where!r} is no path for a socket; write it like /tmp/gdb")
    return path


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) < 1 << 16


def listen(where: str) -> socket.socket:
    """At what parse() takes. Raises ConfigError, HostError."""
    address = parse(where)
    try:
        if isinstance(address, str):
            listener = socket.socket(socket.AF_UNIX)
            old = os.umask(0o177)  # who can connect owns the guest
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
        self._user = os.geteuid()
        self._debugger = Debugger(machine)
        self._over_reader, self._over = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._main, name="gdb", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> GdbServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """The machine has stopped. Raises what serving failed with."""
        os.close(self._over)
        self._debugger.interrupt()
        self._thread.join()
        self._debugger.close()
        os.close(self._over_reader)
        if self._failure:
            raise self._failure

    def _main(self) -> None:
        try:
            while connection := self._accept():
                self._serve(connection)
        except BaseException as error:
            self._failure = error
            self._machine.dismiss()

    def _accept(self) -> socket.socket | None:
        """Waits for a gdb of this user's. None: the machine is over."""
        while True:
            if self._over_reader in wait_for({self._listener.fileno(): READABLE, self._over_reader: READABLE}):
                return None
            connection, _ = self._listener.accept()
            if connection.family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
            if _user(connection) in (0, self._user):
                return connection
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        check("seccomp", lib.corral_jail_enter(lib.CORRAL_JAIL_DEBUGGER))
        self._debugger.pause()
        try:
            GdbStub(self._debugger, Packets(connection, self._over_reader)).serve()
        except (Closed, Detached):
            pass
        except Killed:
            self._machine.dismiss()
        finally:
            connection.close()
        self._debugger.points.clear()
        self._debugger.go()


def _user(connection: socket.socket) -> int:
    """Whose process is at the other end of a local socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return int(user)


_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group
