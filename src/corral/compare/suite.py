"""All that can be measured, and what of it a run does."""

from __future__ import annotations

import os

from corral.compare import programs, tools
from corral.compare.contenders.base import PLACEMENTS
from corral.compare.measures.base import Measure
from corral.compare.measures.held import DiskHeld, Memory
from corral.compare.measures.placed import PlacedMeasure, nodes
from corral.compare.measures.rate import Rate
from corral.compare.measures.start import Start
from corral.compare.measures.tool import ToolMeasure
from corral.compare.measures.workload import Workload
from corral.errors import ConfigError

SHORT = ("start", "rate-2", "memory-1")
QUICK = ("start", "rate-10", "memory-3", "integer", "syscall")
"""What the sentences of claims.py are made of, as far as it takes seconds."""
ONLY_NAMED = ("rate-2", "disk-2")
"""For a short run: not part of a run that names nothing."""
MANY = "rate-100"  # part of such a run where memory allows it
OTHERS_HAVE = ("hello", "parallel")  # programs that other measures run

ON_DISK = {"disk": 256}
"""Workloads that get the name of a disk of their own, and its MiB."""


def everything() -> list[Measure]:
    measures: list[Measure] = [Start(cold=False), Start(cold=True)]
    measures += [Rate(2, fewest=2), *(Rate(count) for count in (1, 10, 50, 100))]
    measures += [Memory(count) for count in (1, 3, 10)]
    measures += [DiskHeld(count) for count in (2, 10)]
    measures += [_workload(name) for name in programs.names() if name not in OTHERS_HAVE]
    measures += [ToolMeasure(tool) for tool in tools.ALL]
    return measures + [PlacedMeasure(name) for name in PLACEMENTS]


def _workload(name: str) -> Workload:
    scratch = ON_DISK.get(name, 0)
    return Workload(name, ("{scratch}",) if scratch else (), scratch)


def titles() -> dict[str, str]:
    """What each measure is called where people read, by its name."""
    return {measure.name: measure.title for measure in everything()}


def choose(names: list[str], short: bool, memory: int) -> list[Measure]:
    """Those named; otherwise all that this host has the memory and the nodes for, or the few that a short run has.
    `memory`: bytes of a guest's. Raises ConfigError."""
    measures = everything()
    known = [measure.name for measure in measures]
    chosen = {found for name in names for found in _named(name, known)}
    if not names:
        left_out = set(ONLY_NAMED)
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        left_out |= {MANY} if free <= 100 * memory else set()
        left_out |= set(_named("numa", known)) if nodes() < 2 else set()
        chosen = set(SHORT) if short else set(known) - left_out
    return [measure for measure in measures if measure.name in chosen]


def _named(name: str, known: list[str]) -> list[str]:
    """The measure with that name, else all that have it before a hyphen. Raises ConfigError."""
    found = [name] if name in known else [one for one in known if one.startswith(f"{name}-")]
    if not found:
        raise ConfigError(f"there is nothing to measure by the name {name!r}; there are {', '.join(known)}")
    return found
