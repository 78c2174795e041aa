"""corral boot --jail: what the command gives up before its guest runs, and what it needs ready for that."""

from __future__ import annotations

import os
import stat

from corral import cli, voice
from corral.errors import ConfigError
from corral.jail import confine
from corral.jail.clerk import Clerk
from corral.native import lib
from corral.startup import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from corral.cli.limits import Limited
    from corral.cli.options import Arguments
    from corral.cli.report import Watch
    from corral.config import MachineConfig
    from corral.machine import Machine

WORDS = ("on", "off", "report")
AT_THE_END: tuple[str, ...] = (  # modules that a guest's end may need; those that they import are among them
    "corral.os_errors",
    "corral.cli.colour",
    "corral.cli.death",
    "corral.debug.guest_registers",
    "corral.debug.report.remains",
    "corral.debug.report.wire",
)
OF_OPTIONS = {"stats": ("corral.observe.counters",), "screen": ("corral.debug.text_screen", "encodings.cp437")}
DEBUGGING = ("corral.debug.next_instruction", "corral.debug.traps", "corral.debug.trap_step")  # when gdb asks for it
SAVING = ("corral.network", "corral.snapshot.resumed", "corral.startup.digest", "json")


def wanted(word: str | None) -> Jail | None:
    """Asked first of all, before anything is opened. None: without a jail, as --jail has it, or because this process is
    not the command's alone. Raises ConfigError."""
    if word is not None and word not in WORDS:
        raise ConfigError(f"--jail {word!r} is none of {', '.join(WORDS)}")
    if word == "off" or not cli.own_process:
        return None
    return Jail(word or "", confine.inherited())


def allowed(jail: Jail | None, watched: str) -> Jail | None:
    """`watched`: the option or command that opens files while the guest runs, "" for none: with one there is no jail.
    Raises ConfigError where somebody insists on it."""
    if jail and watched and jail.word:
        raise ConfigError(f"--jail {jail.word} does not go with {watched}, which opens files while the guest runs")
    return None if watched else jail


def kinds_of(config: MachineConfig) -> tuple[int, int | None]:
    """What all threads of its process may do, and what filter the main thread adds. A vsock's thread has sockets, as
    gdb's has."""
    if any(device.module == "vsock" for device in config.others):
        return int(lib.CORRAL_JAIL_DEBUGGER), int(lib.CORRAL_JAIL_MAIN)
    return int(lib.CORRAL_JAIL_MAIN), None


class Jail:
    """Asked for first, prepared before there is anything of a guest, begun before the machine is made, entered once,
    when all of it is built."""

    def __init__(self, word: str, inherited: tuple[int, ...]) -> None:
        """`word`: that of --jail, "" without. `inherited`: descriptors that were open at the start."""
        self.word, self._inherited = word, inherited
        self._reports = word == "report"
        self._modules = AT_THE_END
        self._kind: int = lib.CORRAL_JAIL_MAIN  # of all threads
        self._own: int | None = None  # what the main thread adds
        self._lacks: list[str] = []  # what this host cannot give it
        self._entered = False
        self.clerk: Clerk | None = None

    def needs(self, *modules: str) -> None:
        """No module can be loaded later."""
        self._modules += modules

    def admits_debugger(self) -> None:
        self._kind, self._own = lib.CORRAL_JAIL_DEBUGGER, lib.CORRAL_JAIL_MAIN
        self.needs(*DEBUGGING)

    def admits_programs(self) -> None:
        """A guest with a name: the main thread talks to programs by sockets, and saves it when one asks for that."""
        self._kind, self._own = lib.CORRAL_JAIL_NAMED, None
        self.needs(*SAVING)

    def prepare(self, report: str, arguments: Arguments, limited: Limited | None, writes: bool) -> None:
        """`report`: the path of a report in full, "" for none. `writes`: to files that are neither disks nor the
        console, as traces and named guests do."""
        self._report, self._limited = report, limited
        self._writes = writes or arguments.values.get("console", "").startswith("file:")
        self._writes |= "net-dump" in arguments.values
        for word, names in OF_OPTIONS.items():
            if word in arguments.values:
                self.needs(*names)

    def begin(self) -> None:
        """Before the machine is made, and after all that fetches or builds: what takes a while goes on beside what the
        host's kernel does for the VM, and threads of devices are in the new namespaces too."""
        if self.clerk or self._reports:
            return
        # The clerk comes to be in the new namespaces and leaves them last: to take a mount namespace apart makes the
        # end of its last process wait for 1 to 2 ms.
        self._lacks = confine.leave_namespaces()
        self.clerk = Clerk("corral.debug.report.of_jailed")
        if self._limited:
            self._limited.hand_over(self.clerk)

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
            for name in self._modules:
                __import__(name)
        if self._kind == lib.CORRAL_JAIL_MAIN:
            self._kind, self._own = kinds_of(machine.config)
        bundle.hold()
        voice.open_all()
        self._entered = True
        if self._reports:
            confine.report(self._kind)
            return
        assert self.clerk
        self.clerk.tell(machine.config.kernel, machine.config.cmdline, self._report)
        if not self._writes and not any(stat.S_ISREG(os.fstat(fd).st_mode) for fd in (1, 2)):
            confine.limit_files(max((disk.size for disk in machine.disks), default=0))
        self._lacks += confine.enter(self._inherited, self._kind, own=self._own)

    def text(self) -> str:
        """A line for --stats."""
        if not self._entered:
            return "jail: the guest had not come to its command"
        if self._reports:
            return "jail: not entered, what it would refuse was told"
        return f"jail: entered{''.join(f', without {what}' for what in self._lacks)}"


class Settled:
    """Around what begins a jail, and may end before it is entered: a name and images are free after it."""

    def __init__(self, jail: Jail | None) -> None:
        self._jail = jail

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        if self._jail and self._jail.clerk:
            self._jail.clerk.settle()


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
