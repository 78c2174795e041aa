"""corral resume: a guest that was paused goes on."""

from __future__ import annotations

from corral.cli.options import Command, parse
from corral.errors import ConfigError
from corral.running import control, place

COMMAND = Command(
    name="resume",
    summary="Has a guest go on that corral pause has halted.",
    operands=("NAME",),
    epilog="""\
example:
  corral resume web""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral resume needs the name of a guest; corral ps lists them")
    control.ask(place.running(arguments.operands[0]).path(place.CONTROL), "resume")
    return 0
