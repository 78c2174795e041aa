"""The command line of what is done to one guest that has a name, as corral pause and corral resume."""

from __future__ import annotations

from corral.cli.options import Arguments, Command, parse
from corral.errors import ConfigError


def parsed(command: Command, words: list[str]) -> Arguments | None:
    """Its first operand is the name. None: help was asked for, and is printed. Raises ConfigError."""
    arguments = parse(command, words)
    if arguments is None:
        print(command.help())
    elif not arguments.operands:
        raise ConfigError(f"corral {command.name} needs the name of a guest; corral ps lists them")
    return arguments
