"""corral compare --check: is Corral worse than it was? Pure; a permutation test for each of its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.compare import statistics
from corral.compare.numbers import number
from corral.compare.samples import Results, more_is_better
from corral.errors import ConfigError

RARE = 0.01  # p below which a difference is not put down to chance
MATTERS = 0.05  # share by which the median must be worse
SUBJECT = "corral"
SAME = ("cpu", "KVM", "guest memory", "pinned")
"""What of the manifest must be alike: figures of another host, or of other settings, are no baseline."""

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Change:
    """Of one metric. `worse`: by which share of the median before; negative for better."""

    name: str
    unit: str
    before: float
    now: float
    worse: float
    p: float

    @property
    def is_regression(self) -> bool:
        return self.p < RARE and self.worse > MATTERS

    def __str__(self) -> str:
        verdict = "WORSE" if self.is_regression else "as before" if self.p >= RARE or self.worse > 0 else "better"
        figures = f"{number(self.before)} {self.unit} before, {number(self.now)} now"
        return f"{verdict:10} {self.name}: {figures} ({-self.worse:+.1%}, p = {self.p:.2g})"


def changes(baseline: Results, now: Results) -> list[Change]:
    """Of all metrics of Corral that both have. Raises ConfigError when nothing can be told from them."""
    for fact in SAME:
        then, today = baseline.manifest.get(fact), now.manifest.get(fact)
        if then != today:
            raise ConfigError(
                f"--check: the baseline was made with {fact} {then!r}, now it is {today!r}; make a new one"
            )
    old, new = _groups(baseline), _groups(now)
    found = []
    for key in [key for key in old if key in new]:
        fewest = min(len(old[key]), len(new[key]))
        if not statistics.can_tell(len(old[key]), len(new[key]), RARE):
            raise ConfigError(f"--check: {key[0]} has only {fewest} samples, too few to tell; use --runs 10")
        found.append(_change(key, old[key], new[key]))
    if not found:
        raise ConfigError("--check: the baseline has nothing of Corral that was measured now; see its samples")
    return found


def _change(key: Key, before: Sequence[float], now: Sequence[float]) -> Change:
    middle, after = statistics.median(before), statistics.median(now)
    measure, metric, unit = key
    grown = after / middle - 1 if middle else 0.0
    p = statistics.unlike(before, now)
    return Change(f"{measure} {metric}", unit, middle, after, -grown if more_is_better(unit) else grown, p)


def _groups(results: Results) -> dict[Key, list[float]]:
    groups: dict[Key, list[float]] = {}
    for sample in results.samples:
        if sample.contender == SUBJECT:
            groups.setdefault((sample.measure, sample.metric, sample.unit), []).append(sample.value)
    return groups
