"""corral kill: a guest that has a name ends at once."""

from __future__ import annotations

import time

from corral.cli.options import Command, parse
from corral.errors import ConfigError, HostError
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
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral kill needs the name of a guest; corral ps lists them")
    for guest in [place.running(name) for name in arguments.operands]:
        guest.signal(signal.SIGKILL)
        if not guest.wait(time.monotonic() + PATIENCE):
            raise HostError(f"the process {guest.pid} of {guest.name} does not end; the host's kernel keeps it")
    return 0
