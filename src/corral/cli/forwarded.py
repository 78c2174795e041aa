"""Signals that go on to a container's command, as those of docker run do."""

from __future__ import annotations

from corral.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType

    from corral.machine import Machine
else:
    import _signal as signal  # see cli/terminal.py

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
INSISTS = 3  # SIGINTs or SIGTERMs with which the guest is ended, whatever its command does


def forward(machine: Machine) -> None:
    """From now on, until this process ends. One that was ignored stays ignored; before the command begins they end the
    guest."""
    channel = machine.channel
    if channel is None:
        return
    asked = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += number in (signal.SIGINT, signal.SIGTERM)
        if asked >= INSISTS or not channel.has_begun:
            terminal.leave(number, frame)
        channel.signal(number)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
