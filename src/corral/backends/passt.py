"""passt, a program of Debian's: a guest's connections become this user's own, without rights and without set-up.

It is started with the one end of a socket pair, forks away when it serves, drops its rights, and ends with the socket.
"""

from __future__ import annotations

import os
import time

from corral import network
from corral.core import waiting
from corral.errors import ConfigError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket

    from corral.network import NetConfig, Published
else:  # what these import takes longer than a guest's start
    import _signal as signal
    import _socket as socket

PROGRAM = "passt"
SOCKET = 3  # its descriptor
PATIENCE = 10.0  # seconds until it serves; 0.02 is usual
MOST_SAID = 1 << 16  # bytes
BUFFER = 1 << 20  # bytes of the socket, each way
# What it says beside what is wrong, or where there is no system log.
_NOISE = ("Failed to send", "Don't run as root", "Couldn't get any nameserver", "Started in background", "No routable")


class Passt:
    """`fd` is a socket to one that serves, or will soon: what is sent until then waits there. Raises ConfigError,
    HostError."""

    def __init__(self, config: NetConfig) -> None:
        program = find()
        _reap()
        for one in config.published:
            _require_free(one)
        self._line, theirs = socket.socketpair()
        self._process = self._end = self._words = -1  # its first process, which ends when it serves
        self._patience = PATIENCE if config.published else 0.0
        try:
            for end in (self._line, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            self._line.setblocking(False)
            self._start(program, config, theirs)
        except OSError as error:
            self.close()
            raise HostError(f"cannot start {program}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
        self.fd = self._line.fileno()

    def _start(self, program: str, config: NetConfig, theirs: socket.socket) -> None:
        import fcntl

        self._words, their_words = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        given = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SOCKET + 1) for fd in (null, their_words, theirs.fileno())]
        try:
            places = ((given[0], 0), (given[1], 1), (given[1], 2), (given[2], SOCKET))
            self._process = os.posix_spawn(
                program,
                _command(config),
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places],
                setpgroup=0,  # Ctrl-C is not for it
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            )
            self._end = os.pidfd_open(self._process)
        finally:
            for fd in (null, their_words, *given):
                os.close(fd)

    def ready(self) -> None:
        """Waits until it serves, where ports are published; else looks whether it has failed, which it does at once.
        Raises HostError, with its own words."""
        if status := self._ended(self._patience):
            raise HostError(f"passt, which --net user needs, does not run here: {self.said or f'status {status}'}")

    def _ended(self, patience: float) -> int:
        """The status of its first process; 0 also if it has not ended by then. No call of it is refused in the jail."""
        if self._process < 0:
            return 0
        if not waiting.wait_for({self._end: waiting.READABLE}, time.monotonic() + patience):
            return 0
        status = os.waitpid(self._process, 0)[1]
        os.close(self._end)
        self._process = self._end = -1
        return status

    @property
    def said(self) -> str:
        """The last of what it has complained of, printable."""
        if self._words < 0:
            return ""
        try:
            text = os.read(self._words, MOST_SAID).decode(errors="replace")
        except BlockingIOError:
            return ""
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith(_NOISE)]
        return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else ""

    def close(self) -> None:
        """It ends with the socket. A guest may be over before it serves: then its end is not waited for."""
        self._line.close()
        self._ended(0.0)
        if self._process >= 0:
            _BEGINNING.append(self)
        if self._words >= 0:
            os.close(self._words)
            self._words = -1


_BEGINNING: list[Passt] = []  # those that did not serve when they were closed


def _reap() -> None:
    for one in list(_BEGINNING):
        one._ended(0.0)
        if one._process < 0:
            _BEGINNING.remove(one)


def find() -> str:
    """Its path. Raises HostError."""
    for folder in (*os.environ.get("PATH", "").split(":"), "/usr/bin"):
        path = os.path.join(folder, PROGRAM)
        if folder and os.access(path, os.X_OK):
            return path
    raise HostError("no passt, which --net user needs; install it: apt-get install passt")


def _command(config: NetConfig) -> list[str]:
    words = ["--quiet", "--fd", str(SOCKET), "--mtu", str(config.mtu or network.MOST_MTU)]
    words += ["--address", network.ADDRESS, "--netmask", str(network.PREFIX), "--gateway", network.GATEWAY]
    words += ["--dns-forward", network.RESOLVER]
    return [PROGRAM, *words, "--tcp-ports", _ports(config, False), "--udp-ports", _ports(config, True)]


def _ports(config: NetConfig, udp: bool) -> str:
    """One option for all of them."""
    return (
        ",".join(f"{one.address}/{one.port}:{one.guest_port}" for one in config.published if one.udp == udp) or "none"
    )


def _require_free(one: Published) -> None:
    """Raises ConfigError for a port of the host that cannot be taken: passt itself may go on without it."""
    kind = socket.SOCK_DGRAM if one.udp else socket.SOCK_STREAM
    tried = socket.socket(socket.AF_INET, kind)
    try:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(not one.udp))
        tried.bind((one.address, one.port))
    except OSError as error:
        where = f"{one.address}:{one.port}{'/udp' if one.udp else ''}"
        raise ConfigError(f"--publish: {where} cannot be taken: {error.strerror}; choose another port") from None
    finally:
        tried.close()
