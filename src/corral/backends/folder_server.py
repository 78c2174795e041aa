"""The 9P server of a shared folder: a process for each (csrc/p9server), which speaks over a socket of Corral's and ends
with it. It is started with the folder and the socket, and jails itself before it reads what a guest sends.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from corral.errors import HostError
from corral.native import SHIM
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import ShareConfig

PROGRAM = os.path.join(os.path.dirname(SHIM), "_corral_folder_server")
SOCKET, FOLDER = 3, 4  # its descriptors (csrc/p9server/jail.h)
PATIENCE = 0.5  # seconds that it may take to end after its connection has; its warden kills it after 0.2
TRIED = 5.0  # seconds that it may take when it is only tried out: it begins first
MOST_COMPLAINTS, LONGEST_COMPLAINT = 5, 200  # lines, characters


def find() -> str:
    """The server's path. Raises HostError."""
    if not os.access(PROGRAM, os.X_OK):
        raise HostError(f"{PROGRAM} is missing, which shares folders; install Corral again with pip, or run: make venv")
    return PROGRAM


def try_out(share: ShareConfig) -> None:
    """Starts one and ends it. Raises HostError, with the server's own words, where none can run."""
    server = FolderServer(share)
    server.close(TRIED)
    if server.complaints:
        raise HostError(f"the server of the shared folder {share.path!r} does not run here: {server.complaints[-1]}")


@record(frozen=True)
class ServerJail:
    """What keeps a server to its folder on this host. `landlock` is its ABI, 0 where there is none."""

    user_namespace: bool
    namespaces: bool
    own_root: bool
    landlock: int
    filter: bool

    @property
    def text(self) -> str:
        layers = ["the folder as its root"] if self.own_root else []
        layers += ["namespaces" + (" with users of its own" if self.user_namespace else "")] if self.namespaces else []
        layers += [f"Landlock (ABI {self.landlock})"] if self.landlock else []
        return ", ".join([*layers, "a filter of system calls"] if self.filter else layers) or "nothing"


def jail() -> ServerJail:
    """Raises HostError where no server runs."""
    import subprocess

    done = subprocess.run([find(), "jail"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    facts = dict(line.split() for line in done.stdout.splitlines())
    if done.returncode or len(facts) != 5:
        raise HostError(f"the server of shared folders does not run here: {done.stderr.strip() or done.returncode}")
    values = [int(facts[name]) for name in ("user-namespace", "namespaces", "own-root", "landlock", "filter")]
    return ServerJail(bool(values[0]), bool(values[1]), bool(values[2]), values[3], bool(values[4]))


class FolderServer:
    """One that runs, with a socket to it, `fd`: with the rights of its user, in that folder. Raises HostError.

    It serves one driver after another: each begins with a Tversion (p9_line.h). Nothing that comes after this
    opens a file or starts a process. `complaints` are what it said of itself, and what ended it, once it is closed: a
    few lines, printable.
    """

    def __init__(self, share: ShareConfig, cpus: tuple[int, ...] = ()) -> None:
        self._share, self._cpus = share, cpus
        self.complaints: list[str] = []
        self._process = self._end = -1  # its number, and a descriptor that is readable when it has ended
        self._words = -1  # a pipe that it speaks to
        self._line, self._theirs = socket.socketpair()
        self.fd = self._line.fileno()
        try:
            self._start()
        except BaseException:
            self.request_close()
            raise

    def request_close(self) -> None:
        """Begins to end it, when nothing uses `fd` any more: several are asked first and waited for after."""
        self._line.close()
        self._theirs.close()

    def close(self, patience: float = PATIENCE) -> None:
        """Takes half a second at most, or the patience: one that does not end is killed by its own warden
        (csrc/p9server/warden.c), and one that the host's kernel does not let go of ends when it does."""
        self.request_close()
        if self._process < 0:
            return
        status = self._wait(patience)
        said = [_killed(os.WTERMSIG(status))] if status is not None and os.WIFSIGNALED(status) else []
        self.complaints += _complaints(self._words) + said
        for fd in (self._words, self._end):
            os.close(fd)
        self._process = -1

    def _wait(self, patience: float) -> int | None:
        """Its status as waitpid() has it; None: it has not ended by then."""
        ends = select.poll()
        ends.register(self._end, select.POLLIN)
        return os.waitpid(self._process, 0)[1] if ends.poll(patience * 1000) else None

    def _start(self) -> None:
        program = find()
        given = [self._theirs.detach()]  # descriptors that the server alone keeps
        words = -1
        try:
            given.append(os.open(self._share.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            # There is no reader while it runs: what there is no room for is not said, and holds nothing up.
            words, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            given.append(theirs)
            self._process = self._spawn(program, *given)
            self._end = os.pidfd_open(self._process)
        except OSError as error:
            if words >= 0:
                os.close(words)
            if self._process >= 0:  # it ends with its socket
                self._process = -1
            raise HostError(f"cannot start the server of {self._share.path!r}: {error.strerror}") from error
        finally:
            for fd in given:
                os.close(fd)
        self._words = words

    def _spawn(self, program: str, line: int, folder: int, words: int) -> int:
        """The process's number. Raises OSError."""
        word = "rw" if self._share.writable else "ro"
        before = os.sched_getaffinity(0)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        high = [_above(fd) for fd in (line, folder, words)]  # none where another is to be
        try:
            # A process begins where its parent's thread runs, and this may be that of a pinned vCPU.
            if self._cpus:
                os.sched_setaffinity(0, self._cpus)
            places = ((null, 0), (null, 1), (high[2], 2), (high[0], SOCKET), (high[1], FOLDER))
            return os.posix_spawn(
                program,
                [program, word],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places],
                setpgroup=0,  # Ctrl-C is not for it; a session of its own would be scheduled apart from ours
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            )
        finally:
            for fd in (null, *high):
                os.close(fd)
            if self._cpus:
                os.sched_setaffinity(0, before)


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FOLDER + 1)


def _killed(number: int) -> str:
    if number == signal.SIGSYS:
        return (
            "its server made a system call that its jail does not have, and was ended; the guest may have taken it over"
        )
    return f"its server crashed ({signal.strsignal(number) or number})"


def _complaints(fd: int) -> list[str]:
    """A guest that has taken it over can have a part in them: no more of them, and no control characters."""
    try:
        said = os.read(fd, 1 << 16).decode(errors="replace")
    except BlockingIOError:
        return []
    lines = [line.strip()[:LONGEST_COMPLAINT] for line in said.splitlines() if line.strip()]
    lines = [line if line.isprintable() else ascii(line) for line in lines]
    return list(dict.fromkeys(lines))[:MOST_COMPLAINTS]
