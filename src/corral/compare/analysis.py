"""From samples to the rows of a report: a summary for each contender and metric, and its ratio to the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.compare import statistics
from corral.compare.numbers import number
from corral.compare.samples import Results, Sample


@dataclass(frozen=True)
class ResultRow:
    """`ratio` is to the table's reference; None for that itself, and where a ratio makes no sense."""

    contender: str
    values: tuple[float, ...]
    summary: statistics.SampleSummary
    ratio: statistics.Ratio | None

    @property
    def verdict(self) -> str:
        return verdict(self.ratio)


@dataclass(frozen=True)
class ResultTable:
    """All of one metric. `reference` is the contender that ratios are to: the first that has samples."""

    measure: str
    metric: str
    unit: str
    reference: str
    rows: tuple[ResultRow, ...]
    pairs: dict[tuple[str, str], statistics.Ratio]
    """Of any two that have one: how many times as much the first has."""

    @property
    def name(self) -> str:
        return f"{self.measure} {self.metric}"


def verdict(ratio: statistics.Ratio | None) -> str:
    """What the pairs say: a ratio, or why there is none."""
    if ratio is None:
        return ""
    if ratio.pairs < statistics.FEWEST:
        return "too few rounds"
    return f"{number(ratio.ratio)} x" if ratio.differs else "no difference"


def tables(results: Results) -> list[ResultTable]:
    """One for each metric, in the order in which they came."""
    groups: dict[tuple[str, str, str], dict[str, list[Sample]]] = {}
    for sample in results.samples:
        key = (sample.measure, sample.metric, sample.unit)
        groups.setdefault(key, {}).setdefault(sample.contender, []).append(sample)
    found = []
    for (measure, metric, unit), by_contender in groups.items():
        names = [name for name in results.contenders if name in by_contender]
        reference = by_contender[names[0]]
        rows = tuple(
            ResultRow(
                name,
                tuple(sample.value for sample in by_contender[name]),
                statistics.summarize([sample.value for sample in by_contender[name]]),
                None if name == names[0] else pairwise(by_contender[name], reference),
            )
            for name in names
        )
        ratios = {
            (one, other): ratio
            for one in names
            for other in names
            if one != other and (ratio := pairwise(by_contender[one], by_contender[other]))
        }
        found.append(ResultTable(measure, metric, unit, names[0], rows, ratios))
    return found


def pairwise(mine: Sequence[Sample], others: Sequence[Sample]) -> statistics.Ratio | None:
    """The ratio by the rounds that both have; None when there is none, or a value that has no ratio."""
    theirs = {sample.round: sample.value for sample in others}
    pairs = [(sample.value, theirs[sample.round]) for sample in mine if sample.round in theirs]
    if not pairs or any(one <= 0 or other <= 0 for one, other in pairs):
        return None
    return statistics.ratio([one for one, _ in pairs], [other for _, other in pairs])
