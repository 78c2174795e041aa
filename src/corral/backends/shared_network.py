"""A network that guests of this user share: its switch is a process beside them (csrc/switch), which the first guest
starts, and which ends with the last. It gives each guest an address, and answers for their names."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

from corral import user_runtime
from corral.errors import ConfigError, HostError
from corral.native import SHIM
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig

PROGRAM = os.path.join(os.path.dirname(SHIM), "_corral_switch")
LISTENER, LOCK, FOLDER = 3, 4, 5  # its descriptors (csrc/switch/switch.h)
HIGH = 16  # no descriptor of these is below: the three are put in their places from above
BUFFER = 1 << 20  # bytes, each way
ANSWER = 64  # bytes, at most
WAIT = 5.0  # seconds for an answer
TRIES = 20  # when a switch ends at the same moment

_joined: dict[str, socket.socket] = {}  # by the card's address: until its device is made


def joined(nets: tuple[NetConfig, ...], name: str) -> tuple[NetConfig, ...]:
    """With the addresses that shared networks give the guest `name`, which is known there by it; "": by a name that is
    made of its card's address. Raises HostError, ConfigError for a name that another guest has there."""
    return tuple(_join(net, name) if net.backend == "shared" and net.connected else net for net in nets)


class SharedNetwork:
    """The backend of a card that has joined one."""

    said = ""

    def __init__(self, config: NetConfig) -> None:
        line = _joined.pop(config.mac, None)
        if line is None:
            raise ConfigError(f"--net shared={config.target}: join it first (backends.shared_network.joined)")
        self._line = line
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._line.setblocking(False)
        self.fd = line.fileno()

    def ready(self) -> None:
        """It is."""

    def close(self) -> None:
        self._line.close()


def _join(net: NetConfig, name: str) -> NetConfig:
    from corral.network import SHARED_PREFIX

    known = name or f"guest-{net.mac[-8:].replace(':', '')}"
    for _ in range(TRIES):
        line = _connected(net.target)
        answer = _ask(line, f"{known} {net.mac}\n")
        if answer.startswith("!"):
            line.close()
            raise ConfigError(f"--net shared={net.target}: {answer.removeprefix('! ')}")
        if answer:
            _joined[net.mac] = line
            return replace(net, address=f"{answer}/{SHARED_PREFIX}")
        line.close()
    raise HostError(f"--net shared={net.target}: its switch does not answer; end its guests and start them again")


def _ask(line: socket.socket, words: str) -> str:
    """ "": it has ended."""
    line.settimeout(WAIT)
    try:
        line.sendall(words.encode())
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < ANSWER:
            piece = line.recv(1)  # frames may follow at once
            if not piece:
                return ""
            answer += piece
        return answer.decode("ascii", "replace").rstrip()
    except OSError:
        return ""


def _connected(name: str) -> socket.socket:
    """To the switch of the network `name`, which is started where there is none."""
    folder = user_runtime.folder("corral-networks")
    path = os.path.join(folder, f"{name}.socket")
    lock = _locked(os.path.join(folder, f"{name}.lock"))
    try:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(path)
            return line
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        _start(name, folder, path, lock)
        line.connect(path)
        return line
    except OSError as error:
        line.close()
        raise HostError(f"--net shared={name}: {error.strerror or error} ({path})") from None
    finally:
        os.close(lock)


def _locked(path: str) -> int:
    """A descriptor that holds the lock; a switch that ends takes its file away."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)


def _start(name: str, folder: str, path: str, lock: int) -> None:
    """Its lock is one of its own, for this process's goes with the descriptor."""
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    opened = [os.open(f"/proc/self/fd/{lock}", os.O_RDWR | os.O_CLOEXEC), os.open(folder, os.O_PATH | os.O_CLOEXEC)]
    high: list[int] = []
    try:
        listener.bind(path)
        listener.listen(8)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) for fd in (listener.fileno(), *opened)]
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        moves = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in zip(high, (LISTENER, LOCK, FOLDER), strict=True)]
        os.posix_spawn(PROGRAM, [PROGRAM, name], {}, file_actions=[*actions, *moves], setsid=True)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise HostError(f"{PROGRAM} is missing; install Corral again") from None
        raise
    finally:
        listener.close()
        for fd in (*opened, *high):
            os.close(fd)
