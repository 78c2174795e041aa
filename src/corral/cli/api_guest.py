"""The process of a guest that came by the API: `corral boot` with a request instead of a command line."""

from __future__ import annotations

import os

from corral.cli import boot
from corral.cli import jail as jails
from corral.cli.options import parse
from corral.config import VsockConfig
from corral.errors import CorralError
from corral.running import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.api.guest import GuestStart
    from corral.backends.console import Console
    from corral.launch.request import BootRequest
    from corral.machine import Machine

COMM = "corral-guest"  # what ps calls it; its command line is that of the API's process


def run(start: GuestStart, jail: str | None) -> int:
    """Its exit status."""
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(COMM)
    wanted = jails.wanted(jail)
    # What is open by now is closed in the jail, and not before: others would have the numbers.
    guest = _ApiGuest(start, os.dup(start.ready))
    lifeline = os.dup(start.lifeline)
    if not os.isatty(0):
        _silence()
    try:
        arguments = parse(boot.COMMAND, ["--console", f"file:{start.console}" if start.console else "stdio"])
        assert arguments
        with named.Named(start.name, _words(start.request), lifeline) as guest.named:
            guest.named.status = boot.run_here(arguments, None, wanted, guest, start.request)
            return guest.named.status
    except CorralError as error:
        guest.fails(str(error))
        return error.exit_status


def _words(request: BootRequest) -> list[str]:
    """What corral ps shows of it."""
    return ["boot", "--restore", request.snapshot] if request.snapshot else ["boot", request.kernel or ""]


def _silence() -> None:
    """Standard input that is not a terminal is not connected to the serial line: its end would end a shell there."""
    reader, _ = os.pipe()  # the writer's end stays open
    os.dup2(reader, 0)
    os.close(reader)


class _ApiGuest:
    """What boot does otherwise for it (detached.Named)."""

    named: named.Named

    def __init__(self, start: GuestStart, ready: int) -> None:
        self._start, self._ready = start, ready

    def request(self, request: BootRequest) -> BootRequest:
        """As it is; its vsock is reached by the guest's name, too."""
        for one in request.others:
            if isinstance(one, VsockConfig):
                os.symlink(os.path.abspath(one.path), self.named.vsock)
        return request

    def open_log(self) -> int | None:
        return None

    def attach(self, machine: Machine, console: Console) -> None:
        """Before it runs."""
        self.named.attach(machine, console, paused=self._start.paused)
        os.write(self._ready, named.READY)
        os.close(self._ready)
        self._ready = -1

    def fails(self, why: str) -> None:
        """To the client, or where the guest has started to standard error."""
        if self._ready >= 0:
            os.write(self._ready, why.encode())
        else:
            os.write(2, f"corral: {why}\n".encode())
