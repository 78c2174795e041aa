"""Two runs beside each other: of two machines, or of two days. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from corral.compare import statistics
from corral.compare.numbers import number
from corral.compare.samples import Results, more_is_better
from corral.printable import printable

RARE = 0.01  # p below which a difference is not put down to chance
FACTS = (
    "begun",
    "cpu",
    "cpus",
    "KVM",
    "kernel",
    "mitigations",
    "memory",
    "guest memory",
    "pinned",
    "governor",
    "revision",
)
"""Of the manifest: what a difference may come from."""

Key = tuple[str, str, str, str]  # contender, measure, metric, unit


@dataclass(frozen=True)
class Pair:
    """One metric of one contender in both. `p`: the probability of samples at least so unlike each other if nothing had
    changed; None where there are too few to tell."""

    contender: str
    metric: str
    unit: str
    first: float
    second: float
    p: float | None

    @property
    def verdict(self) -> str:
        if self.p is None:
            return "too few rounds"
        if self.p >= RARE or not self.first:
            return "no difference"
        times = self.second / self.first
        good = (times > 1) == more_is_better(self.unit)
        return f"{number(times)} x, {'better' if good else 'worse'}"


def pairs(first: Results, second: Results) -> list[Pair]:
    """Of all metrics that both have, in the order of the first."""
    old, new = _groups(first), _groups(second)
    return [_pair(key, old[key], new[key]) for key in old if key in new]


def facts(first: Results, second: Results) -> list[str]:
    """A line for each fact in which the two differ."""
    found = [(fact, first.manifest.get(fact, "?"), second.manifest.get(fact, "?")) for fact in FACTS]
    return [f"{fact}: {one}, then {other}" for fact, one, other in found if one != other]


def text(first: Results, second: Results) -> str:
    """A table for a terminal; one line where they have nothing in common."""
    found = pairs(first, second)
    if not found:
        return "the two have no metric in common"
    lines = [*facts(first, second), *_lines(found, {**first.contenders, **second.contenders})]
    return "\n".join(map(printable, lines))  # a file of somebody else's


def _lines(found: list[Pair], titles: dict[str, str]) -> Iterator[str]:
    last = ""
    for pair in found:
        title = titles.get(pair.contender, pair.contender)
        if title != last:
            yield ""
            yield f"{title:40}{'first':>12}{'second':>12}"
            last = title
        name = f"{pair.metric} ({pair.unit})"
        yield f"  {name:38}{number(pair.first):>12}{number(pair.second):>12}  {pair.verdict}"


def _pair(key: Key, first: list[float], second: list[float]) -> Pair:
    contender, measure, metric, unit = key
    p = statistics.unlike(first, second) if statistics.can_tell(len(first), len(second), RARE) else None
    return Pair(contender, f"{measure} {metric}", unit, statistics.median(first), statistics.median(second), p)


def _groups(results: Results) -> dict[Key, list[float]]:
    groups: dict[Key, list[float]] = {}
    order = list(results.contenders)
    samples = sorted(
        results.samples, key=lambda one: order.index(one.contender) if one.contender in order else len(order)
    )
    for one in samples:
        groups.setdefault((one.contender, one.measure, one.metric, one.unit), []).append(one.value)
    return groups
