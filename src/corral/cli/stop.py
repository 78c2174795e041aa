"""corral stop: a guest that has a name shuts down."""

from __future__ import annotations

import time

from corral.cli import guest_name
from corral.cli.options import Command, Option, seconds
from corral.errors import CorralError
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from corral.running.place import RunningGuest
else:
    import _signal as signal  # see cli/terminal.py

COMMAND = Command(
    name="stop",
    summary="""\
Has guests shut down: by their agent, or by the power button where that does not answer; ends one that has not done so
in time.""",
    operands=("NAME", "NAME..."),
    options=(Option("grace", "S", "how long it may take (default: 20)"),),
    epilog="""\
examples:
  corral stop web
  corral stop --grace 60 web db""",
)
GRACE, LAST = 20.0, 5.0  # seconds; LAST: for its process to end when it is asked to


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    grace = seconds(arguments.values["grace"], "--grace") if "grace" in arguments.values else GRACE
    for guest in [place.running(name) for name in arguments.operands]:
        stop(guest, grace)
    return 0


def stop(guest: RunningGuest, grace: float) -> None:
    """Returns when it has ended."""
    until = time.monotonic() + grace
    ask(guest, min(grace, 2.0))
    if guest.wait(until):
        return
    guest.signal(signal.SIGTERM)
    if not guest.wait(time.monotonic() + LAST):
        guest.signal(signal.SIGKILL)
        guest.wait(time.monotonic() + LAST)


def ask(guest: RunningGuest, patience: float = 2.0) -> None:
    """Asks it to shut down, and returns."""
    from corral.agent.connection import POWER_OFF, Connection

    try:
        with Connection(guest.path(place.VSOCK), time.monotonic() + patience) as connection:
            connection.send(POWER_OFF)
            connection.fill()  # its answer; a guest may be gone before that is on its way
    except CorralError:  # no agent, or one that is stuck: a signal needs none
        guest.signal(signal.SIGTERM)
