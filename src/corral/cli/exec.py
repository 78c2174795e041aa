"""corral exec: a command in a guest that runs."""

from __future__ import annotations

import os
import sys
import time

from corral.agent import command as commands
from corral.agent.connection import Connection, Refused
from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.cli.reached import connected
from corral.core import waiting
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from corral.agent.command import End, Wanted
else:
    import _signal as signal  # see cli/terminal.py

COMMAND = Command(
    name="exec",
    summary="""\
Runs COMMAND in the guest NAME; its standard output and error are ours, apart and byte for byte, and its exit
status is corral's. One word is a line for the guest's shell; more are a program and its arguments.""",
    operands=("NAME",),
    rest="COMMAND...",
    options=(
        Option("interactive", "", "our standard input is the command's; else it has none", "i"),
        Option("tty", "", "a terminal for it, as for a shell: corral exec -it NAME -- sh", "t"),
        Option("env", "NAME=VALUE", "a variable of its environment; may be repeated", "e"),
        Option("workdir", "FOLDER", "where it begins (default: its user's home)", "w"),
        Option("user", "NAME", "as whom it runs, by name or number (default: root)", "u"),
        Option("timeout", "S", "after S seconds it is killed with all that it has started; exit status 124"),
        Option("wait", "S", "how long a guest that still boots is waited for (default: 30)"),
    ),
    epilog="""\
examples:
  corral exec web -- uname -a
  corral exec web -- 'ps | wc -l'
  corral exec -i web -- tar x -C /srv <site.tar
  corral exec -it web -- sh

exit status: the command's; 128 + n: signal n ended it; 127: there is no such command; 126: it cannot be run;
  124: --timeout was over; 4: the guest, or its agent, has gone""",
)
WAIT = 30.0
CANNOT, MISSING = 126, 127
_ENOENT, _EACCES = 2, 13


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands or not arguments.rest:
        raise ConfigError("corral exec needs a guest and a command: corral exec NAME -- COMMAND")
    terminal.leave_on_signals()
    wanted = _wanted(arguments)
    until = time.monotonic() + (seconds(arguments.values["wait"], "--wait") if "wait" in arguments.values else WAIT)
    guest = place.running(arguments.operands[0], until)
    with connected(guest, until) as connection:
        try:
            end = attend(connection, wanted, "interactive" in arguments.values)
        except Refused as refused:
            print(f"corral: {guest.name}: {refused}", file=sys.stderr)
            return MISSING if refused.errno == _ENOENT else CANNOT
    if end.out_of_time:
        raise GuestTimeout(f"the command did not end within {wanted.timeout:g} s and was killed")
    if end.too_much:
        raise GuestError("the command wrote more than it may and was killed")
    return end.status if end.status >= 0 else 128 - end.status


def _wanted(arguments: Arguments) -> Wanted:
    values, rest = arguments.values, arguments.rest or []
    variables = [text.partition("=") for text in arguments.every.get("env", [])]
    for name, equals, _ in variables:
        if not name or not equals:
            raise ConfigError(f"--env {name!r} is not NAME=VALUE")
    return commands.Wanted(
        words=tuple(rest) if len(rest) > 1 else (),
        line=rest[0] if len(rest) == 1 else None,
        environment=tuple((name, value) for name, _, value in variables),
        folder=values.get("workdir"),
        user=values.get("user", ""),
        terminal=_size() if "tty" in values else None,
        timeout=seconds(values["timeout"]) if "timeout" in values else 0.0,
    )


def _size() -> tuple[int, int]:
    from corral.backends.channel import terminal_size

    return terminal_size(0)


def attend(connection: Connection, wanted: Wanted, interactive: bool) -> End:
    """Runs it to its end; what it writes is ours, and what we are given, where `interactive`. Raises Refused."""
    one = commands.RunningCommand(connection, wanted, _write)
    raw = 0 if wanted.terminal is not None and interactive and os.isatty(0) else None
    resized = [False]
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def changed(number: int, frame: object) -> None:
        resized[0] = True
        os.write(waker, b"x")

    if raw is not None:
        signal.signal(signal.SIGWINCH, changed)
    if not interactive:
        one.give(b"")
    with terminal.Raw(raw):
        while one.end is None:
            sources = (one.fileno(), wake, 0) if interactive and one.wants_input else (one.fileno(), wake)
            ready = waiting.wait_for(dict.fromkeys(sources, waiting.READABLE))
            if wake in ready:
                os.read(wake, 4096)
            if resized[0]:
                resized[0] = False
                one.resize(*_size())
            if 0 in ready:
                try:
                    data = os.read(0, 65536)
                except OSError:  # a terminal that hung up
                    data = b""
                interactive = bool(data)
                one.give(data)
            if one.fileno() in ready:
                one.serve()
    return one.end


def _write(stream: int, data: bytes) -> None:
    """A reader who stands still holds the command up, and nothing else."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream, view) :]
        except BlockingIOError:
            waiting.wait_for({stream: waiting.WRITABLE})
