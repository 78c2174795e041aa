"""corral resume: a guest that was paused goes on."""

from __future__ import annotations

from corral.cli import guest_name
from corral.cli.options import Command
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
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    control.ask(place.running(arguments.operands[0]).path(place.CONTROL), "resume")
    return 0
