"""What samples support, without assuming how they are distributed. Pure; what is random has a fixed seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

SEED = 20260101
RESAMPLES = 2000  # of a bootstrap
SHUFFLES = 10_000  # of a permutation test, where trying all would be more
LEVEL = 0.95  # of confidence intervals
SIGNIFICANT = 1 - LEVEL
FEWEST = 6  # pairs: of fewer no arrangement of signs is rarer than 1 in 32, so a test cannot tell anything


@dataclass(frozen=True)
class SampleSummary:
    """Of one contender's samples of one metric. `mad` is the median distance from the median, `low` and `high` the ends
    of the confidence interval of the median."""

    count: int
    median: float
    mad: float
    iqr: float
    least: float
    most: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """How many times as much one contender has as another, by pairs of one round. `p` is the probability of pairs at
    least so unlike each other if there were no difference; `differs` whether the samples support one."""

    pairs: int
    ratio: float
    low: float
    high: float
    p: float

    @property
    def differs(self) -> bool:
        return self.pairs >= FEWEST and self.p < SIGNIFICANT and not self.low <= 1 <= self.high


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two samples beside it. Raises ValueError for no values."""
    if not values:
        raise ValueError("no samples")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    # Not a sum of two products: that of equal values may be off by a rounding.
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def summarize(values: Sequence[float]) -> SampleSummary:
    middle = median(values)
    low, high = interval(values)
    return SampleSummary(
        count=len(values),
        median=middle,
        mad=median([abs(value - middle) for value in values]),
        iqr=quantile(values, 0.75) - quantile(values, 0.25),
        least=min(values),
        most=max(values),
        low=low,
        high=high,
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the median: the bootstrap's percentile interval, of LEVEL. Of few samples it is too narrow; see FEWEST."""
    if len(set(values)) == 1:
        return values[0], values[0]
    chance = random.Random(SEED)
    found = [median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    return quantile(found, SIGNIFICANT / 2), quantile(found, 1 - SIGNIFICANT / 2)


def ratio(mine: Sequence[float], others: Sequence[float]) -> Ratio:
    """Of pairs of positive values in the same order. Raises ValueError for none, or different numbers of them."""
    if any(value <= 0 for value in (*mine, *others)):
        raise ValueError("only positive values have a ratio")
    logs = [math.log(one / other) for one, other in zip(mine, others, strict=True)]
    low, high = interval(logs)
    return Ratio(len(logs), math.exp(median(logs)), math.exp(low), math.exp(high), sign_flips(logs))


def sign_flips(differences: Sequence[float]) -> float:
    """The paired permutation test, two-sided: the share of all ways to give the differences signs that make a sum at
    least as far from 0. Exact for up to 13 differences, otherwise estimated."""
    sizes = [abs(difference) for difference in differences]
    observed = abs(math.fsum(differences)) * (1 - 1e-12)
    if 2 ** len(sizes) <= SHUFFLES:
        signs = itertools.product((1, -1), repeat=len(sizes))
        hits = [abs(math.fsum(map(_product, sizes, row))) >= observed for row in signs]
        return sum(hits) / len(hits)
    chance = random.Random(SEED)
    hits_found = sum(
        abs(math.fsum(size if chance.random() < 0.5 else -size for size in sizes)) >= observed for _ in range(SHUFFLES)
    )
    return (hits_found + 1) / (SHUFFLES + 1)


def can_tell(before: int, after: int, rare: float) -> bool:
    """Whether so many samples can show a difference at p below `rare`."""
    return math.comb(before + after, after) * rare >= 2


def unlike(before: Sequence[float], after: Sequence[float]) -> float:
    """p of shuffles(), of logarithms where there are any: one straggler then counts for less, and ratios alike in both
    directions."""
    if all(value > 0 for value in (*before, *after)):
        return shuffles([math.log(value) for value in before], [math.log(value) for value in after])
    return shuffles(before, after)


def shuffles(before: Sequence[float], after: Sequence[float]) -> float:
    """The permutation test of two samples that are not pairs, two-sided, by the difference of their means: the share of
    ways to deal all values into two such samples that differ at least as much. Exact where there are few ways."""
    both = [*before, *after]
    size, total = len(after), math.fsum(both)

    def difference(dealt: float) -> float:
        return abs(dealt / size - (total - dealt) / len(before))

    observed = difference(math.fsum(after)) * (1 - 1e-12)
    if math.comb(len(both), size) <= SHUFFLES:
        sums = [difference(math.fsum(dealt)) >= observed for dealt in itertools.combinations(both, size)]
        return sum(sums) / len(sums)
    chance = random.Random(SEED)
    hits = sum(difference(math.fsum(chance.sample(both, size))) >= observed for _ in range(SHUFFLES))
    return (hits + 1) / (SHUFFLES + 1)


def _product(size: float, sign: int) -> float:
    return size * sign
