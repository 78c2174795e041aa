"""A Unix socket over which frames go behind their lengths, as QEMU's `-netdev stream` has it: two guests, a switch, or
a test."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig

BUFFER = 1 << 20  # bytes, each way


class FrameSocket:
    """`fd` is a connection to the listener at the path or, where the configuration says so, from the first that comes:
    that is waited for, without an end but a signal's. Raises HostError."""

    def __init__(self, config: NetConfig) -> None:
        self._line = _awaited(config.target) if config.listens else _connected(config.target)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._line.setblocking(False)
        self.fd = self._line.fileno()

    said = ""

    def ready(self) -> None:
        """It is."""

    def close(self) -> None:
        self._line.close()


def _connected(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(path)
    except OSError as error:
        line.close()
        why = error.strerror or "it cannot be reached"
        cure = "see who may use it" if error.errno in (errno.EACCES, errno.EPERM) else "start the other end first"
        if error.errno == errno.ENOENT:
            cure = "start the other end first, or wait for it there: ,listen"
        raise HostError(f"--net socket={path}: {why}; {cure}") from None
    return line


def _awaited(path: str) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _make_room(path)
            listener.bind(path)
            listener.listen(1)
        except OSError as error:
            raise HostError(f"--net socket={path},listen: {error.strerror}; choose another path") from None
        try:
            print(f"corral: waits for the other end of the network at {path}", file=sys.stderr)
            waiting = select.poll()
            waiting.register(listener, select.POLLIN)
            while not waiting.poll():
                pass
            return listener.accept()[0]
        finally:
            os.unlink(path)


def _make_room(path: str) -> None:
    """Takes a socket away that has no listener any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
