"""What samples are said to support."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.compare import statistics

values = st.floats(1e-3, 1e6)
some = st.lists(values, min_size=1, max_size=12)


def noisy(middle: float, count: int, seed: int, spread: float = 0.02) -> list[float]:
    chance = random.Random(seed)
    return [middle * math.exp(chance.gauss(0, spread)) for _ in range(count)]


@given(some, st.randoms())
def test_the_order_of_samples_does_not_matter(samples: list[float], chance: random.Random) -> None:
    shuffled = list(samples)
    chance.shuffle(shuffled)
    assert statistics.median(shuffled) == statistics.median(samples)
    assert min(samples) <= statistics.median(samples) <= max(samples)


@given(some, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_grow(samples: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert statistics.quantile(samples, low) <= statistics.quantile(samples, high) * (1 + 1e-12)


def test_quantiles_that_are_known() -> None:
    assert statistics.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert statistics.quantile(range(101), 0.99) == 99
    with pytest.raises(ValueError, match="no samples"):
        statistics.median([])


@settings(max_examples=20, deadline=None)
@given(some)
def test_an_interval_is_around_the_median_and_within_the_samples(samples: list[float]) -> None:
    summary = statistics.summarize(samples)
    slack = 1e-9 * summary.most
    assert summary.least - slack <= summary.low <= summary.median + slack
    assert summary.median - slack <= summary.high <= summary.most + slack
    assert statistics.summarize(samples) == summary


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        low, high = statistics.interval(noisy(10, 15, seed, 0.1))
        covered += low <= 10 <= high
    assert covered >= 50


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=10))
def test_a_ratio_turned_around_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    mine, others = [one for one, _ in pairs], [other for _, other in pairs]
    forth, back = statistics.ratio(mine, others), statistics.ratio(others, mine)
    assert forth.ratio == pytest.approx(1 / back.ratio)
    assert forth.p == pytest.approx(back.p)
    assert 0 < forth.p <= 1


@given(st.lists(values, min_size=6, max_size=8))
@settings(max_examples=20, deadline=None)
def test_equal_samples_show_no_difference(samples: list[float]) -> None:
    found = statistics.ratio(samples, samples)
    assert (found.ratio, found.p, found.differs) == (1, 1, False)
    assert statistics.shuffles(samples, samples) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_that_is_there_is_shown(seed: int) -> None:
    drift = noisy(1, 10, 100 + seed, 0.5)  # hits both alike, and is far larger than what differs
    mine = [value * shift for value, shift in zip(noisy(12, 10, seed), drift, strict=True)]
    others = [value * shift for value, shift in zip(noisy(10, 10, 50 + seed), drift, strict=True)]
    found = statistics.ratio(mine, others)
    assert found.differs
    assert found.ratio == pytest.approx(1.2, rel=0.05)


def test_where_there_is_none_one_is_seldom_shown() -> None:
    shown = sum(statistics.ratio(noisy(10, 8, seed), noisy(10, 8, 999 + seed)).differs for seed in range(40))
    assert shown <= 5


def test_too_few_pairs_show_nothing_however_far_apart() -> None:
    assert not statistics.ratio([1000.0] * 5, [1.0] * 5).differs
    assert statistics.ratio([1000.0 + i for i in range(6)], [1.0] * 6).differs


def test_the_exact_tests_count_arrangements() -> None:
    assert statistics.sign_flips([1.0, 2.0, 3.0]) == 2 / 8
    assert statistics.sign_flips([1.0, -1.0]) == 1
    assert statistics.shuffles([1.0, 2.0, 3.0], [7.0, 8.0, 9.0]) == 2 / 20


def test_the_estimated_tests_agree_with_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = noisy(10, 6, 1, 0.1), noisy(11, 6, 2, 0.1)
    differences = [b - a for a, b in zip(before, after, strict=True)]
    exact = statistics.shuffles(before, after), statistics.sign_flips(differences)
    monkeypatch.setattr(statistics, "SHUFFLES", 30)
    rough = statistics.shuffles(before, after), statistics.sign_flips(differences)
    assert rough == pytest.approx(exact, abs=0.25)
    assert min(rough) >= 1 / 31


@pytest.mark.parametrize(("mine", "others"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_ratios_that_there_are_none_of(mine: list[float], others: list[float]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        statistics.ratio(mine, others)
