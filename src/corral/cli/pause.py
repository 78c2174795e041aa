"""corral pause: a guest's CPUs stand still."""

from __future__ import annotations

from corral.cli.options import Command, parse
from corral.errors import ConfigError
from corral.running import control, place

COMMAND = Command(
    name="pause",
    summary="Halts the CPUs of a guest; corral resume has it go on. Its clock goes on meanwhile.",
    operands=("NAME",),
    epilog="""\
example:
  corral pause web""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral pause needs the name of a guest; corral ps lists them")
    control.ask(place.running(arguments.operands[0]).path(place.CONTROL), "pause")
    return 0
