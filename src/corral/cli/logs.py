"""corral logs: what a guest has said on its console."""

from __future__ import annotations

from corral.cli import terminal
from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.running import place

COMMAND = Command(
    name="logs",
    summary="Prints the end of what a guest has said on its console, a MiB of it, also of one that has ended.",
    operands=("NAME",),
    options=(
        Option("follow", "", "and what it says from now on, until it ends", "f"),
        Option("process", "", "what the guest's process said instead: why it ended, or how it began"),
    ),
    epilog="""\
examples:
  corral logs web
  corral logs -f web
  corral logs --process web""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral logs needs the name of a guest; corral ps --all lists them")
    from corral.running import ring

    guest = place.find(arguments.operands[0])
    terminal.leave_on_signals()
    try:
        if "process" in arguments.values:
            with open(guest.path(place.SAID), "rb") as file:
                _print(file.read())
            return 0
        said = ring.read(guest.path(place.CONSOLE))
    except FileNotFoundError:
        return 0
    _print(said)
    if "follow" in arguments.values and guest.runs:
        from corral.running.attached import Attached

        with Attached(guest.path(place.CONTROL)) as console:
            shown: bytes | None = console.skip(said)
            while shown is not None:
                _print(shown)
                shown = console.read()
    return 0


def _print(data: bytes) -> None:
    """As text, made printable: a guest does nothing to a terminal by its log."""
    print(data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", ""), end="", flush=True)
