"""corral qmp: a guest that has a name, by QEMU's machine protocol."""

from __future__ import annotations

import os
import socket
import time

from corral.cli.options import Command, Option, parse
from corral.cli.terminal import leave_on_signals
from corral.core import waiting
from corral.errors import ConfigError, HostError
from corral.running import place
from corral.running.qmp import QmpSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from corral.running.place import RunningGuest
else:
    import _signal as signal  # see cli/terminal.py

COMMAND = Command(
    name="qmp",
    summary="""\
Speaks a part of QEMU's machine protocol (QMP) for a guest that runs, on standard input and output, or on a socket, one
client after the other, until the guest ends. So tools that know QEMU look into it: drgn, LibVMI, scripts.
docs/research/introspection.md has the commands that it knows.""",
    operands=("NAME",),
    options=(Option("socket", "PATH", "serve a Unix socket there, in place of standard input and output"),),
    epilog="""\
examples:
  corral qmp web
  printf '{"execute": "%s"}\\n' qmp_capabilities query-status | corral qmp web
  corral qmp web --socket /tmp/web.qmp""",
)
PATIENCE = 10.0  # seconds for a client to take an answer
_PIECE = 1 << 16
_MOST_FDS = 8


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 1:
        raise ConfigError("corral qmp wants the name of a guest; corral ps lists them")
    leave_on_signals()
    guest = place.running(arguments.operands[0])
    path = arguments.values.get("socket")
    ended = guest.process()
    try:
        if path is None:
            _serve(_session(guest), 0, 1, ended)
        else:
            _listen(guest, path, ended)
    finally:
        if ended >= 0:
            os.close(ended)
    return 0


def _session(guest: RunningGuest) -> QmpSession:
    from corral.cli import stop

    return QmpSession(guest, lambda: stop.ask(guest), lambda: guest.signal(signal.SIGKILL))


def _listen(guest: RunningGuest, path: str, ended: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        except OSError as error:
            raise HostError(f"no socket can be at {path!r}: {error.strerror or error}; name another place") from None
        finally:
            os.umask(before)
        try:
            listener.listen(1)
            while not _has_ended(ended) and _wait(listener.fileno(), ended):
                client, _ = listener.accept()
                with client:
                    _serve(_session(guest), client.fileno(), client.fileno(), ended)
        finally:
            os.unlink(path)


def _serve(session: QmpSession, source: int, sink: int, ended: int) -> None:
    """One client, to its end or the guest's."""
    try:
        if not _send(sink, session.greeting()):
            return
        while not session.over and _wait(source, ended):
            data, files = _received(source)
            session.take(data, files)
            while said := session.answer():
                if not _send(sink, said):
                    return
            if not data:
                return
    except (ConnectionError, BrokenPipeError):  # it has left
        if sink == 1:
            raise
    finally:
        session.close()


def _wait(source: int, ended: int) -> bool:
    """For a client; False when the guest ends first."""
    ready = waiting.wait_for({source: waiting.READABLE, **({ended: waiting.READABLE} if ended >= 0 else {})}, None)
    return source in ready


def _has_ended(ended: int) -> bool:
    return ended < 0 or bool(waiting.wait_for({ended: waiting.READABLE}, time.monotonic()))


def _received(source: int) -> tuple[bytes, list[int]]:
    if source == 0:
        return os.read(0, _PIECE), []
    with socket.socket(fileno=os.dup(source)) as one:
        data, files, _, _ = socket.recv_fds(one, _PIECE, _MOST_FDS)
    for fd in files:
        os.set_inheritable(fd, False)
    return data, files


def _send(sink: int, data: bytes) -> bool:
    """False for a client that does not read."""
    rest, until = memoryview(data), time.monotonic() + PATIENCE
    while rest:
        if not waiting.wait_for({sink: waiting.WRITABLE}, until):
            return False
        rest = rest[os.write(sink, rest[: 1 << 12]) :]
    return True
