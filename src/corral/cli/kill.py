"""corral kill: a guest that has a name ends at once."""

from __future__ import annotations

import time

from corral.cli import guest_name
from corral.cli.options import Command
from corral.errors import HostError
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # see cli/terminal.py

COMMAND = Command(
    name="kill",
    summary="Ends guests at once, whatever they do; what they have not written to disk is lost.",
    operands=("NAME", "NAME..."),
    epilog="""\
example:
  corral kill web""",
)
PATIENCE = 10.0  # seconds until a killed process is gone: the host's kernel gives its memory back


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    for guest in [place.running(name) for name in arguments.operands]:
        guest.signal(signal.SIGKILL)
        if not guest.wait(time.monotonic() + PATIENCE):
            raise HostError(f"the process {guest.pid} of {guest.name} does not end; the host's kernel keeps it")
    return 0
