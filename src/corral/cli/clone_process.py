"""The processes of clones: each is forked with the snapshot open and all modules there, makes its machine, enters the
jail and runs it. What they write comes by pipes, or goes to files."""

from __future__ import annotations

import gc
import os
import sys
import time

from corral.cli import ending
from corral.cli import jail as jails
from corral.cli.clone_output import Lines
from corral.config import VsockConfig
from corral.core.waiting import READABLE, WRITABLE, wait_for
from corral.errors import ConfigError, CorralError, GuestError, HostError
from corral.jail import confine
from corral.machine import Machine
from corral.native import lib
from corral.snapshot import clone_cards, machine_state
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from corral.config import MachineConfig
    from corral.core.exits import Outcome
    from corral.snapshot.resumed import Resumed
else:
    import _signal as signal  # see cli/terminal.py

_BACKENDS = {"user": "passt", "tap": "tap", "socket": "frame_socket"}
BUG = 70  # the exit status of a process that ends by what it did not expect


@record(frozen=True)
class Terms:
    """What all clones have in common. `name`: what their names begin with, None where they cannot be told one;
    `has_command`: one whose status is wanted; `inherited`: descriptors that were open at the start."""

    config: MachineConfig
    name: str | None
    timeout: float | None
    jailed: bool
    has_command: bool
    inherited: tuple[int, ...]


class _Clone:
    """A running one, as its parent sees it."""

    def __init__(self, number: int, pid: int, output: list[Lines]) -> None:
        self.number, self.pid, self.output = number, pid, output
        self.ended = os.pidfd_open(pid)


class Clones:
    """`number` clones of a snapshot, `jobs` at once. `folder`: for files of what they write. Raises ConfigError."""

    def __init__(self, saved: Resumed, terms: Terms, number: int, jobs: int, folder: str | None) -> None:
        self._saved, self._terms, self._number, self._jobs = saved, terms, number, min(jobs, number)
        self._folder = folder
        self._running: dict[int, _Clone] = {}  # by the descriptor that tells the end
        if folder is not None:
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--output {folder!r}: {error.strerror}; name another folder") from None

    def run(self) -> list[int]:
        """The exit status of each."""
        _import_all(self._terms.config)
        statuses = [0] * self._number
        begun = 0
        gc.collect()
        gc.freeze()  # what they share with this process stays shared
        try:
            while begun < self._number or self._running:
                while begun < self._number and len(self._running) < self._jobs:
                    begun += 1
                    self._begin(begun)
                self._serve(statuses)
        finally:
            self._end_all()
            gc.unfreeze()
        return statuses

    def _serve(self, statuses: list[int]) -> None:
        """Waits for output and ends, and takes what there is."""
        lines = {one.source: one for clone in self._running.values() for one in clone.output if one.source >= 0}
        ready = wait_for(dict.fromkeys((*lines, *self._running), READABLE))
        for descriptor in ready:
            if descriptor in lines:
                lines[descriptor].take()
        for descriptor in ready:
            if descriptor in self._running:
                clone = self._running.pop(descriptor)
                for one in clone.output:
                    one.take_all()
                statuses[clone.number - 1] = _status(clone)

    def _begin(self, number: int) -> None:
        output: list[Lines] = []
        ends: list[int] = []
        prefix = b"" if self._number == 1 else b"%d: " % number
        for descriptor, suffix in ((1, "out"), (2, "err")):
            if self._folder is not None:
                ends.append(self._file(f"{number}.{suffix}"))
                continue
            ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            output.append(Lines(ours, descriptor, prefix))
            ends.append(theirs)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._be_clone(number, parent, output, ends)
        for end in ends:
            os.close(end)
        clone = _Clone(number, pid, output)
        self._running[clone.ended] = clone

    def _file(self, name: str) -> int:
        assert self._folder is not None
        path = os.path.join(self._folder, name)
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise ConfigError(f"--output: cannot write {path!r}: {error.strerror}; name another folder") from None

    def _end_all(self) -> None:
        for clone in self._running.values():
            os.kill(clone.pid, signal.SIGKILL)
        for clone in self._running.values():
            for one in clone.output:
                one.close()
            _status(clone)
        self._running.clear()

    def _be_clone(self, number: int, parent: int, output: list[Lines], ends: list[int]) -> NoReturn:
        """In the child. Whatever happens, nothing of its parent's life goes on here."""
        status = BUG
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: its parent's to answer
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            lib.corral_end_with_parent(parent)
            for clone in self._running.values():  # not this one's to read
                os.close(clone.ended)
                output += clone.output
            for one in output:
                one.close()
            os.dup2(ends[1], 2)
            sys.stdout = sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
            lib.corral_name_thread(b"corral-clone")
            status = _run(self._saved.another(), self._terms, number, *ends)
        except CorralError as error:
            status = error.exit_status
            _say(f"corral: {error}")
        except (OSError, MemoryError) as error:
            status = HostError.exit_status
            _say(f"corral: the host denies this clone what it needs: {error}; try fewer: --jobs")
        except BaseException:
            import traceback

            _say(traceback.format_exc())
        finally:
            os._exit(status)


def _run(saved: Resumed, terms: Terms, number: int, output: int, errors: int) -> int:
    """The exit status of a clone."""
    from corral.backends.channel import PIPES, Channel, named
    from corral.backends.console import Console

    name = f"{terms.name}-{number}" if terms.name else None
    config, channel = _called(terms.config, name), None
    addresses: tuple[tuple[bytes, bytes, int], ...] = ()
    nets = machine_state.cards(config)
    if nets and nets[0].connected:
        nets = clone_cards.of(nets, number)
        addresses, left = clone_cards.told(nets), list(nets)
        others = tuple(left.pop(0) if other.module == "net" else other for other in config.others)
        config = replace(config, others=others)
    streams = config.channel == PIPES
    if config.channel:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        identity = named(name, addresses) if name else None
        channel = Channel((nothing, output, errors) if streams else None, command=config.command, identity=identity)
    machine = Machine(config, None, channel, saved)
    console = Console(None if streams else output, None, None, channel)
    console.may_end_early = streams
    if terms.jailed:
        confine.prepare_network()
        confine.leave_namespaces()
        kind, own = jails.kinds_of(config)
        confine.enter(terms.inherited, kind, own=own)
    outcome = machine.run(console, terms.timeout)
    if config.disks:  # what the host is still doing for them comes to its end
        machine.close()
    if ending.died(outcome, console.tail):
        raise GuestError(f"the guest died: {_why(outcome)}; corral boot --restore tells more of it")
    return ending.conclude(outcome, terms.has_command, terms.timeout, console.tail if streams else b"")


def _called(config: MachineConfig, name: str | None) -> MachineConfig:
    """With that name for a guest that is told it by its agent."""
    if config.channel or not any(isinstance(one, VsockConfig) for one in config.others):
        return config
    others = (replace(one, hostname=name) if isinstance(one, VsockConfig) else one for one in config.others)
    return replace(config, others=tuple(others))


def _why(outcome: Outcome) -> str:
    cause = outcome.cause.value if outcome.cause else "it ended"
    return f"{cause} ({outcome.detail})" if outcome.detail else cause


def _say(text: str) -> None:
    """On standard error, if its reader takes it within a second."""
    wait_for({2: WRITABLE}, time.monotonic() + 1)
    print(text, file=sys.stderr)


def _status(clone: _Clone) -> int:
    """Of one that ends, as a shell tells it."""
    os.close(clone.ended)
    _, status = os.waitpid(clone.pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _import_all(config: MachineConfig) -> None:
    """What a clone needs, so that none has to; in the jail none could."""
    import traceback  # noqa: F401  (of what should not happen)
    from importlib import import_module

    names = ["backends.channel", "backends.console", "cli.ending", "snapshot.machine_state", "os_errors", "core.shell"]
    names += ["devices.virtio.slots", "devices.crt_controller", "backends.vsock_greeting"]
    names += [f"devices.virtio.{device.module}" for device in config.devices]
    for net in machine_state.cards(config):
        names += [f"backends.{_BACKENDS[net.backend]}"] * net.connected + ["backends.egress"] * bool(net.rules)
    for name in names:
        import_module(f"corral.{name}")
    sys.stdout.flush()
    sys.stderr.flush()
