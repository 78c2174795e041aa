"""Where a guest's console goes, and what its session has: this terminal, or pipes to our standard streams."""

from __future__ import annotations

import os
import stat

from corral import voice
from corral.cli.options import Arguments
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from corral.backends.channel import Channel
else:
    import _signal as signal  # see cli/terminal.py

PIPES, TERMINAL = "pipes", "terminal"
PLACES = ("stdio", "stderr", "none")  # of a console, or file:PATH[,size=SIZE]


def wanted(arguments: Arguments) -> str:
    """What a session of the guest is to have by the channel: "terminal" where a person works with it, "pipes" where it
    is a part of a script; "" for a shell that has no input at all."""
    where, command = arguments.values.get("console", "stdio"), arguments.rest
    if "tty" in arguments.values:
        return TERMINAL
    if command:
        return TERMINAL if where == "stdio" and all(map(os.isatty, (0, 1, 2))) else PIPES
    if where != "stdio":
        return ""
    return TERMINAL if os.isatty(0) else PIPES


class Ends:
    """The console's and the session's descriptors. A context manager. Raises ConfigError for a console that cannot be
    written. `early`: all that the guest says is wanted. `has_input`: ours is the session's; else it has none."""

    def __init__(self, where: str, early: bool = False, has_input: bool = True) -> None:
        self._where, self._early, self._has_input = where, early, has_input
        self._opened: list[int] = []
        self._resized: object = None  # SIGWINCH's handler before
        self.console: int | None = None  # what the console is written to
        self.input: int | None = 0 if has_input and where in ("stdio", "stderr") else None  # what it reads
        self.person = self.input is not None and os.isatty(0)  # who types there
        self.log: int | None = None  # what the output of a session with pipes goes to instead of ours; this object's
        self.room: int | None = None  # bytes that the console's file takes; None: it is none, or what has no size
        if where.startswith("file:"):
            from corral.config import sized_path

            self._open_file(*sized_path(where.removeprefix("file:")))
        elif where not in PLACES:
            raise ConfigError(f"--console {where!r} is none of {', '.join(PLACES)}, file:PATH[,size=SIZE]")
        elif where != "none":
            self.console = self._writer(1 if where == "stdio" else 2)

    def _open_file(self, path: str, size: int) -> None:
        try:
            # O_NONBLOCK: a FIFO without a reader must not hold us up.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self.console = self._keep(os.open(path, flags, 0o666), -1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "there is a NUL byte in its name"
            raise ConfigError(f"--console: cannot write {path!r}: {why}; name another file") from error
        if stat.S_ISREG(os.fstat(self.console).st_mode):
            self.room = size

    @property
    def is_plain(self) -> bool:
        """Whether what a guest says on its console before its session begins goes to no file, and is not asked for."""
        return self._where == "stdio" and not self._early

    @property
    def shows_console(self) -> bool:
        """Whether what the guest's console says is seen by who looks at this command's output."""
        return self.console is not None and self._where in ("stdio", "stderr")

    def open_channel(self, session: str, command: str | None, hostname: str | None = None) -> Channel | None:
        """The channel for what a session has by it, which is known when it is known what boots; `hostname` is what its
        guest is called from now on. Raises ConfigError."""
        if not session:
            return None
        from corral.backends.channel import Channel, named, terminal_size

        identity = None if hostname is None else named(hostname)

        if session == TERMINAL:
            channel = Channel(size=lambda: terminal_size(0), command=command, identity=identity)
            before = signal.signal(signal.SIGWINCH, lambda number, frame: channel.resized())
            self._resized = self._resized or before
            return channel
        if self.log is not None:
            self._opened.append(self.log)
            source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            return Channel((self._keep(source, -1), self.log, self.log), command=command, identity=identity)
        output = self.console if self._where == "stdio" and self.console is not None else self._writer(1)
        if self._where == "stdio":  # the session's alone
            self.console = self._writer(2) if self._early else None
        self.input, self.person = None, False
        source = voice.reader(0) if self._has_input else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return Channel((self._keep(source, 0), output, self._writer(2)), command=command, identity=identity)

    def _writer(self, descriptor: int) -> int:
        # A terminal that does not take everything at once would block the write of the rest.
        return self._keep(voice.writer(descriptor), descriptor)

    def _keep(self, descriptor: int, given: int) -> int:
        if descriptor != given:
            self._opened.append(descriptor)
        return descriptor

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._resized is not None:
            signal.signal(signal.SIGWINCH, self._resized)  # type: ignore[arg-type]
        for descriptor in self._opened:
            os.close(descriptor)
