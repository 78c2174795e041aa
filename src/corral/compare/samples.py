"""What a run yields: samples, and what could not be measured, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_TIMES = ("ns", "us", "ms", "s")
_AMOUNTS = ("B", "KiB", "MiB", "GiB", "KB", "MB", "GB")


@dataclass(frozen=True)
class Sample:
    """One value. `measure` is what was run, `metric` one of what it tells; `at`: seconds since the run began.

    `round` counts from 0; samples of one round were taken beside each other, so they can be compared pair by pair.
    """

    contender: str
    measure: str
    metric: str
    value: float
    unit: str
    round: int
    at: float


@dataclass(frozen=True)
class Absence:
    """What is not among the samples. `measure` "" stands for all that the contender could have done."""

    contender: str
    measure: str
    reason: str


@dataclass
class Results:
    """A whole run. `manifest` and `ledger` are JSON's types; the latter has stages by contender."""

    contenders: dict[str, str]
    """Their titles by name, in the order of the run."""
    samples: list[Sample] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    interrupted: bool = False


def more_is_better(unit: str) -> bool:
    """By the unit: times and amounts of memory are better small, rates and everything else large."""
    return unit not in _TIMES + _AMOUNTS
