"""Where the time of a start goes, stage by stage: for Corral from inside, for everybody as far as can be seen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import corral
from corral.compare import patience, programs, statistics
from corral.compare.contenders import Contender, Job, Launch
from corral.compare.contenders.base import is_hello
from corral.compare.contenders.corral_vm import Corral
from corral.compare.contenders.corral_vm import program as corral_program

STAGED = Path(corral.__file__).parent / "cli" / "staged.py"  # a program, which imports as a boot does
TIMES = 5  # starts, of which a median is taken stage by stage
ENOUGH = 5.0  # seconds, after which no further start is looked at
END = 30.0  # seconds
Rows = list[dict[str, Any]]
"""Of each stage its name, and its `begin` and `end` in milliseconds since the command."""
Stages = list[tuple[str, float]]
"""Each stage's name and its end, in seconds since the command."""


def take(contender: Contender, cpus: Sequence[int]) -> Rows:
    """The median of some starts, stage by stage. Raises Failed, Unsuitable."""
    starts = [_start(contender, cpus)]
    while len(starts) < TIMES and sum(start[-1][1] for start in starts) < ENOUGH:
        starts.append(_start(contender, cpus))
    names = [name for name, _ in starts[0]]
    alike = [dict(start) for start in starts if [name for name, _ in start] == names]
    rows, begin = [], 0.0
    for name in names:
        end = max(begin, 1e3 * statistics.median([start[name] for start in alike]))
        rows.append({"stage": name, "begin": begin, "end": end})
        begin = end
    return rows


def _start(contender: Contender, cpus: Sequence[int]) -> Stages:
    launch = contender.launch(Job(programs.binary("hello")))
    inside = contender.kit.fresh("ledger") / "stages" if isinstance(contender, Corral) else None
    if inside:
        launch = _with_clock(launch, inside)
    with contender.running(launch, cpus) as process:
        line = process.until(is_hello, contender.patience())
        end = process.succeed(patience.scaled(END))
        first, begun, lines = process.first_byte, process.begun, list(process.lines)
    stages = _read(inside, begun) if inside else []
    marks = [moment for moment, text in lines if contender.marker and text.startswith(contender.marker)]
    assert first is not None
    if contender.is_vm:
        stages.append(("first byte of its console", first - begun))
        stages += [("init", marks[0] - begun)] if marks else []
    stages.append(("first line of the command", line - begun))
    stages.append(("its end", end - begun))
    return stages


def _with_clock(launch: Launch, file: Path) -> Launch:
    """The same start of Corral, by cli/staged.py: which also saves no time that the `corral` command does not."""
    argv = [sys.executable, "-P", str(STAGED), str(file), *launch.argv[len(corral_program()) :]]
    return replace(launch, argv=argv)


def _read(file: Path, begun: float) -> Stages:
    stages = []
    for line in file.read_text().splitlines():
        moment, _, name = line.partition(" ")
        stages.append((name, int(moment) / 1e9 - begun))
    return stages
