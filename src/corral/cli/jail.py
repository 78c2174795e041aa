"""corral boot --jail: what the command gives up before its guest runs, and what it needs ready for that."""

from __future__ import annotations

from corral import cli, voice
from corral.errors import ConfigError
from corral.jail import confine
from corral.jail.clerk import Clerk
from corral.startup import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from corral.cli.options import Arguments
    from corral.cli.report import Watch
    from corral.machine import Machine

WORDS = ("on", "off")
AT_THE_END = (  # modules that a guest's end may need; those that they import are among them
    "corral.os_errors",
    "corral.cli.colour",
    "corral.cli.death",
    "corral.debug.guest_registers",
    "corral.debug.report.remains",
    "corral.debug.report.wire",
)
OF_OPTIONS = {"stats": ("corral.observe.counters",), "screen": ("corral.debug.text_screen", "encodings.cp437")}


def wanted(word: str | None) -> Jail | None:
    """Asked first of all, before anything is opened. None: without a jail, as --jail has it, or because this process is
    not the command's alone. Raises ConfigError."""
    if word is not None and word not in WORDS:
        raise ConfigError(f"--jail {word!r} is none of {', '.join(WORDS)}")
    if word == "off" or not cli.own_process:
        return None
    return Jail(word == "on", confine.inherited())


def allowed(jail: Jail | None, watched: str) -> Jail | None:
    """`watched`: the option or command that opens files while the guest runs, "" for none: with one there is no jail.
    Raises ConfigError where somebody insists on it."""
    if jail and watched and jail.insisted:
        raise ConfigError(f"--jail on does not go with {watched}, which opens files while the guest runs")
    return None if watched else jail


class Jail:
    """Asked for first, prepared before there is anything of a guest, entered once, when all of it is built."""

    def __init__(self, insisted: bool, strangers: tuple[int, ...]) -> None:
        """`insisted`: by --jail on. `strangers`: descriptors that were open at the start."""
        self.insisted, self._strangers = insisted, strangers
        self._lacks: list[str] | None = None  # what this host cannot give it, once it is entered

    def prepare(self, report: str, arguments: Arguments) -> None:
        """`report`: the path of a report in full, "" for none."""
        self._report = report
        wanted = (names for word, names in OF_OPTIONS.items() if word in arguments.values)
        self._modules = sum(wanted, AT_THE_END)
        self.clerk = Clerk(_make_report)

    def watch(self, outer: Watch | None) -> Watch:
        """What boot.run() attaches to the machine: `outer`, and after it the jail."""

        return lambda machine: _Entered(self, machine, outer(machine) if outer else None)

    def close_behind(self, machine: Machine) -> None:
        """Enters it: at once, or when a guest that is kept for the next start has been. So far that has run nothing but
        Corral's own kernel and init."""
        channel = machine.channel
        if channel is None or not channel.defers_input:
            self.enter(machine)
            return
        keep = channel.before_session

        def keep_and_enter() -> None:
            keep()
            machine.pause()
            self.enter(machine)
            machine.resume()

        channel.before_session = keep_and_enter

    def enter(self, machine: Machine) -> None:
        if self._modules != AT_THE_END or not bundle.has(AT_THE_END):
            for name in self._modules:  # no module can be loaded later
                __import__(name)
        bundle.hold()
        voice.open_all()
        self.clerk.tell(machine.config.kernel, machine.config.cmdline, self._report)
        self._lacks = confine.enter(self._strangers)

    def text(self) -> str:
        """A line for --stats."""
        if self._lacks is None:
            return "jail: the guest had not come to its command"
        return f"jail: entered{''.join(f', without {what}' for what in self._lacks)}"


def _make_report(told: list[bytes], death: list[bytes], questions: int, answers: int) -> None:
    from corral.debug.report import of_jailed  # what it needs is loaded by the clerk, when it is asked

    of_jailed.make(told, death, questions, answers)


class _Entered:
    """Inside of what `outer` attaches, the jail, which nothing leaves."""

    def __init__(self, jail: Jail, machine: Machine, outer: AbstractContextManager[object] | None) -> None:
        self._jail, self._machine, self._outer = jail, machine, outer

    def __enter__(self) -> None:
        if self._outer:
            self._outer.__enter__()
        try:
            self._jail.close_behind(self._machine)
        except BaseException as error:
            if self._outer:
                self._outer.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(self, *exception: Any) -> bool | None:
        return self._outer.__exit__(*exception) if self._outer else None
