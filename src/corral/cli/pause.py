"""corral pause: a guest's CPUs stand still."""

from __future__ import annotations

from corral.cli import guest_name
from corral.cli.options import Command
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
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    control.ask(place.running(arguments.operands[0]).path(place.CONTROL), "pause")
    return 0
