"""The table of what devices counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral.observe.counters import percentile


def test_nothing_took_no_time() -> None:
    assert percentile([0] * 40, 0.5) == 0


def test_a_percentile_is_the_end_of_the_bucket_that_reaches_it() -> None:
    latency = [0] * 40
    latency[10], latency[20] = 98, 2
    assert percentile(latency, 0.5) == 2**11 / 1000
    assert percentile(latency, 0.98) == 2**11 / 1000
    assert percentile(latency, 0.99) == 2**21 / 1000


@given(st.lists(st.integers(0, 1000), min_size=40, max_size=40).filter(any), st.floats(0.01, 1))
def test_as_many_as_were_asked_for_are_within_it(latency: list[int], share: float) -> None:
    limit = percentile(latency, share)
    within = sum(count for exponent, count in enumerate(latency) if 2 ** (exponent + 1) / 1000 <= limit)
    assert within >= share * sum(latency) - 1e-6 * sum(latency)
