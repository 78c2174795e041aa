"""corral boot --name and --detach: guests that other commands find by their name."""

from __future__ import annotations

import os

from corral.cli.options import Arguments
from corral.config import VsockConfig
from corral.errors import ConfigError
from corral.running import named, place
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.backends.console import Console
    from corral.launch.request import BootRequest
    from corral.machine import Machine

    class Named(Protocol):
        """What boot does otherwise for a guest that has a name: NamedGuest, or one of the API (api_guest.py)."""

        def request(self, request: BootRequest) -> BootRequest:
            """What it boots."""

        def open_log(self) -> int | None:
            """A descriptor of the caller's for what a command with pipes writes; None: it is not kept."""

        def attach(self, machine: Machine, console: Console) -> None:
            """Before it runs."""


FOREGROUND = {"gdb", "tty", "interactive", "plan", "plan-json"}  # about this terminal, or no new guest


def start(arguments: Arguments, words: list[str]) -> int:
    """--detach of `corral boot` with these words."""
    end = words.index("--") if "--" in words else len(words)
    own = [word for word in words[:end] if word != "--detach"]
    return start_command(arguments, ["boot", *own, *words[end:]])


def start_command(arguments: Arguments, words: list[str]) -> int:
    """`words`: a subcommand's that runs the guest, and its own without --detach. Its process is told by the
    environment; what it says so far is on standard error."""
    import sys

    from corral.running import start as starting

    values = arguments.values
    if "name" not in values:
        raise ConfigError("--detach needs a name for the guest: --name NAME")
    _check(arguments)
    starting.start(values["name"], words, show=lambda line: print(line, file=sys.stderr))
    print(values["name"])
    return 0


def _check(arguments: Arguments) -> None:
    """Raises ConfigError for what a named guest, or one in the background, cannot have."""
    values = arguments.values
    place.check_name(values["name"])
    if "detach" in values and (given := sorted(FOREGROUND & values.keys())):
        raise ConfigError(f"--detach does not go with --{given[0]}; leave one out")
    if "vsock" in values:
        raise ConfigError("--vsock and --name exclude each other: a guest with a name has a vsock for its agent")


def run_named(arguments: Arguments, words: list[str], run: Callable[[NamedGuest], int]) -> int:
    """In front, or as what start() started."""
    _check(arguments)
    behind = named.background()
    if behind and "console" not in arguments.values:
        arguments.every["console"] = ["none"]
    with named.Named(arguments.values["name"], words, behind.lifeline if behind else None) as guest:
        guest.status = run(NamedGuest(guest, behind))
        return guest.status


class NamedGuest:
    """What boot does otherwise for a guest that has a name."""

    def __init__(self, guest: named.Named, behind: named.Background | None) -> None:
        self._guest, self._behind = guest, behind

    def request(self, request: BootRequest) -> BootRequest:
        """With the agent, and the device that it is reached by. In the background a command is on the console, which
        is kept."""
        vsock = VsockConfig(self._guest.vsock)
        if request.snapshot is not None:
            return self._restored(request, request.snapshot, vsock)
        others = (*request.others, vsock)
        disks = tuple(replace(disk, path=os.path.abspath(disk.path)) for disk in request.disks)  # for its snapshots
        on_console = self._behind and request.container is None
        session = "" if on_console else request.session
        return replace(request, disks=disks, agent=True, others=others, session=session)

    def open_log(self) -> int | None:
        """What the output of a command with pipes is written to in the background, which is kept like the console's;
        the caller's. None: it is not."""
        return self._guest.open_log() if self._behind else None

    def _restored(self, request: BootRequest, path: str, vsock: VsockConfig) -> BootRequest:
        """By its own name, and reached by its agent, as far as the guest in the snapshot has what that takes."""
        from corral.snapshot.resumed import Resumed

        with Resumed(path) as saved:
            reached = any(one.vsock for one in saved.content.guest.others)
            hostname = self._guest.name.replace("_", "-") if saved.has_identity else None
        return replace(request, others=(vsock,) if reached else (), hostname=hostname)

    def attach(self, machine: Machine, console: Console) -> None:
        """Before it runs."""
        from corral.debug.probes import remote  # now, since in the jail it cannot be

        self._guest.attach(machine, console, {remote.WORD: remote.SyscallStreams(machine)})
        if self._behind:
            self._behind.tell()
