"""Limits: as they are on a quiet machine, and longer where others are at work."""

from __future__ import annotations

import os

import pytest

from corral.compare import patience
from corral.compare.contenders import ALL, Kit


@pytest.mark.parametrize(
    ("load", "cpus", "share", "times"),
    [(0.0, 2, 1.0, 1.0), (10.0, 2, 1.0, 6.0), (0.0, 2, 4.0, 4.0), (2.0, 2, 5.0, 5.0), (1000.0, 1, 1.0, patience.MOST)],
)
def test_it_grows_with_those_who_wait_for_a_cpu(
    load: float, cpus: int, share: float, times: float, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)))
    monkeypatch.setattr(patience, "_share_of_a_cpu", lambda: share)
    assert patience.slowness() == times
    assert patience.scaled(60) == 60 * times
    for contender in ALL:
        assert contender(Kit(tmp_path, 128 << 20)).patience() == contender.limit * times  # type: ignore[arg-type]


def test_on_this_machine_it_is_a_number() -> None:
    assert 1.0 <= patience.slowness() <= patience.MOST
