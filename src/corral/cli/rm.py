"""corral rm: what is left of guests that have ended."""

from __future__ import annotations

from corral.cli.options import Command, parse
from corral.errors import ConfigError
from corral.running import place

COMMAND = Command(
    name="rm",
    summary="Removes what is left of guests that have ended: their logs and exit statuses.",
    operands=("NAME", "NAME..."),
    epilog="""\
example:
  corral rm web db""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral rm needs the name of a guest; corral ps --all lists them")
    for guest in [place.find(name) for name in arguments.operands]:
        if guest.runs:
            raise ConfigError(f"the guest {guest.name!r} runs; corral stop {guest.name} first")
        place.remove(guest)
    return 0
