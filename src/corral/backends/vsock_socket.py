"""The host's side of a virtio-vsock, by Firecracker's convention: a Unix socket PATH by which programs of the host
reach the guest, and PATH_PORT for programs of the guest."""

from __future__ import annotations

import errno
import os

from corral.errors import ConfigError, HostError
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory

WAITING = 128  # programs of the host that are not accepted yet
SPARE = 64  # descriptors for what else this process does


class VsockSocket:
    """The socket, which only this user may connect to. One that was left by a process that is gone is taken over.
    `fd` listens; `most` connections may be open at a time, which the limit of descriptors is raised for. Raises
    ConfigError for a path that cannot be had, HostError."""

    def __init__(self, path: str) -> None:
        import socket

        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._bound = False
        try:
            before = os.umask(0o177)
            try:
                self._bind()
            finally:
                os.umask(before)
            self._bound = True
            self._socket.listen(WAITING)
            self.most = _descriptors()
        except BaseException:
            self.close()
            raise
        self.fd = self._socket.fileno()

    def _bind(self) -> None:
        try:
            self._socket.bind(self.path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not self._is_left():
                raise ConfigError(f"--vsock {self.path}: {_reason(error)}; name another path") from error
            os.unlink(self.path)
            self._socket.bind(self.path)

    def _is_left(self) -> bool:
        """Whether it is a socket that no process listens at any more."""
        import socket
        import stat

        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                return False
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
                trial.connect(self.path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    def connector(self, memory: GuestMemory) -> int:
        """A process that connects the guest's programs, as a descriptor to it: vsock.h. It removes PATH at its end."""
        result = int(lib.corral_vsock_connector(os.fsencode(os.path.abspath(self.path)), memory.native))
        if result == -errno.ENAMETOOLONG:
            raise ConfigError(f"--vsock {self.path}: the path is too long for a socket with _PORT behind it")
        self._bound &= result < 0
        if result < 0:
            raise HostError(f"cannot start the process that connects the guest: {os.strerror(-result)}")
        return result

    def close(self) -> None:
        """After the connector, which has removed the path: in the jail this process cannot."""
        self._socket.close()
        if self._bound:
            self._bound = False
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "a guest or another program has it, or it is no socket"
    return error.strerror or str(error)


def _descriptors() -> int:
    """How many connections there can be; raises this process's limit for that, as far as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(lib.CORRAL_VSOCK_MOST) + len(os.listdir("/proc/self/fd")) + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return int(lib.CORRAL_VSOCK_MOST)
    return max(1, min(int(lib.CORRAL_VSOCK_MOST), soft - (wanted - int(lib.CORRAL_VSOCK_MOST))))
