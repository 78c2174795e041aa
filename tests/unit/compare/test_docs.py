"""docs/overhead.md and the help say what there is."""

from __future__ import annotations

import shlex
from pathlib import Path

from corral.cli import compare
from corral.cli.options import parse
from corral.compare import suite
from corral.compare.contenders import ALL

DOC = (Path(__file__).parents[3] / "docs" / "overhead.md").read_text()


def commands(text: str) -> list[list[str]]:
    lines = [line.strip().split("   ")[0] for line in text.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("corral compare")]


def test_the_commands_are_taken() -> None:
    found = commands(DOC) + commands(compare.COMMAND.epilog)
    assert len(found) >= 8
    for words in found:
        arguments = parse(compare.COMMAND, words)
        assert arguments is not None
        compare._request(arguments)


def test_everybody_and_every_measure_is_named() -> None:
    names = [contender.name for contender in ALL]
    names += [measure.name for measure in suite.everything() if measure.name.startswith(("start", "memory"))]
    missing = [name for name in names if f"`{name}`" not in DOC]
    assert not missing
