"""A process of the pool: it waits for one command, runs it as `corral` would in a process of its own, and ends."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import sys

from corral.jail import confine
from corral.pool import likeness
from corral.pool.request import BadRequest, Handed, receive
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Main = Callable[[list[str]], int]

TAKEN, BEGIN = b"y", b"b"  # what is said before a command begins (csrc/client)
SERVED = ("boot", "run", "exec")
PATIENCE = 1.0  # seconds that a client has for each part of its request
BUG = 70  # the exit status of a process that ends by what it did not expect
NEWS = struct.Struct("=i60s")  # a worker's number, and why it left a command to its client; "": it has taken one
_PEER = struct.Struct("=3i")  # struct ucred
_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT),
)


@record(frozen=True)
class WorkerTerms:
    """What all workers of a pool have: the socket that they take commands from; the end of a pipe that is readable
    when the keeper is gone; the end of one for news; what they have to be like; and what runs a command's words."""

    listener: socket.socket
    lifeline: int
    news: int
    like: likeness.Likeness
    environment: dict[str, str]
    program: tuple[int, ...]
    main: Main


def work(terms: WorkerTerms) -> NoReturn:
    """In a child of the keeper. Whatever happens, nothing of the keeper's life goes on here."""
    status = BUG
    try:
        connection, request = _next(terms)
        _take(terms, connection, request)
        status = _command(terms.main, request.words)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the client leaves when it has the status
        # The reader of its output sees its end no later than the client's.
        for stream in (0, 1, 2):
            os.close(stream)
        os.write(connection.fileno(), bytes([status & 0xFF]))  # in the jail there is no send()
    except (BadRequest, BrokenPipeError):
        pass
    finally:
        os._exit(status)


def _next(terms: WorkerTerms) -> tuple[socket.socket, Handed]:
    """The next command that this process can run. Ends with the keeper."""
    poll = select.poll()
    poll.register(terms.listener, select.POLLIN)
    poll.register(terms.lifeline, select.POLLIN)
    while True:
        if any(fd == terms.lifeline for fd, _ in poll.poll()):
            os._exit(0)
        try:
            connection, _ = terms.listener.accept()
        except OSError:  # another worker was faster, or the client is gone
            continue
        connection.settimeout(PATIENCE)
        try:
            request = receive(connection)
        except BadRequest:
            connection.close()
            continue
        why = _difference(terms, connection, request)
        if not why:
            return connection, request
        request.close()
        connection.close()
        _tell(terms, why)


def _difference(terms: WorkerTerms, connection: socket.socket, request: Handed) -> str:
    """Why the client has to do it itself, in a few words; "": it has not."""
    pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid != os.geteuid():
        return "another user"
    if not request.words or request.words[0] not in SERVED:
        return "another command"
    if any(word.startswith("--limit-") for word in request.words):
        return "a control group of its own"
    try:
        if likeness.of_program() != terms.program:
            return "another Corral is installed by now"
        if likeness.of_environment(request.environment) != terms.environment:
            return "other PYTHON or locale variables"
        return likeness.difference(terms.like, likeness.of_process(pid))
    except OSError:
        return "a process that cannot be looked at"


def _tell(terms: WorkerTerms, why: str) -> None:
    os.write(terms.news, NEWS.pack(os.getpid(), why.encode()))


def _take(terms: WorkerTerms, connection: socket.socket, request: Handed) -> None:
    """Becomes what the client would be, and waits for its last word. Raises BadRequest where that does not come: the
    client does it itself."""
    _tell(terms, "")
    own = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [TAKEN], [own])
    terms.listener.close()
    for fd in (own, terms.lifeline, terms.news):
        os.close(fd)
    for stream, fd in enumerate(request.descriptors[:3]):
        os.dup2(fd, stream)
    sys.stdout, sys.stderr = (open(stream, "w", 1, closefd=False) for stream in (1, 2))  # noqa: SIM115  (for good)
    os.fchdir(request.descriptors[3])
    request.close()
    os.umask(request.mask)
    os.environ.clear()
    os.environ.update(request.environment)
    for number in _SIGNALS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if request.ignored >> number & 1 else default)
    confine.have_inherited_nothing()
    try:
        if connection.recv(1) != BEGIN:
            raise BadRequest("the client is gone")
    except OSError:
        raise BadRequest("the client is gone") from None
    _end_with(connection)


def _end_with(connection: socket.socket) -> None:
    """SIGTERM comes when the client ends before it has the status."""
    fd = connection.fileno()
    connection.setblocking(True)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | fcntl.FASYNC)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):  # it has ended meanwhile
        os.kill(os.getpid(), signal.SIGTERM)


def _command(main: Main, words: list[str]) -> int:
    """Its exit status, as Python would have it."""
    import atexit

    try:
        status = main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    return status
