"""Turns, and what becomes of those who fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.compare import schedule
from corral.compare.contenders import Contender, Job, Kit, Launch, Unsuitable
from corral.compare.contenders.base import Failed
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.compare.samples import Results


class Someone(Contender):
    def __init__(self, kit: Kit, name: str) -> None:
        super().__init__(kit)
        self.name = self.title = name  # type: ignore[misc]

    def launch(self, job: Job) -> Launch:
        raise NotImplementedError


class Recorded(Measure):
    """Fails for "bad", cannot be for "never", and is interrupted at the call of that number."""

    def __init__(self, name: str, calls: list[str], interrupted: int = -1) -> None:
        self.name = self.title = name
        self._calls, self._interrupted = calls, interrupted

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        self._calls.append(f"{self.name}{contender.name}")
        if len(self._calls) == self._interrupted:
            raise KeyboardInterrupt
        if contender.name == "bad":
            raise Failed("it broke")
        if contender.name == "never":
            raise Unsuitable("it has no disk")
        return {"value": (float(len(self._calls)), "ms")}


def run(names: str, rounds: int, interrupted: int = -1, warm_up: int = 0) -> tuple[list[str], Results, list[float]]:
    calls: list[str] = []
    shares: list[float] = []
    results = Results({name: name for name in names.split()})
    everybody = [Someone(Kit(Path("/nowhere"), 0), name) for name in names.split()]
    measures = [Recorded("1", calls, interrupted), Recorded("2", calls, interrupted)]
    place = Cpus((0,), (0,), Path("/nowhere"))
    try:
        schedule.run(everybody, measures, rounds, warm_up, place, results, lambda share, _: shares.append(share))
    except KeyboardInterrupt:
        results.interrupted = True
    return calls, results, shares


def test_contenders_take_turns() -> None:
    calls, results, shares = run("A B C", 2)
    assert calls == ["1A", "1B", "1C", "2A", "2B", "2C"] * 2
    assert [sample.round for sample in results.samples] == [0] * 6 + [1] * 6
    assert all(0 <= share <= 1 for share in shares)
    assert shares[-1] == 1


def test_of_a_warm_up_nothing_is_kept() -> None:
    calls, results, _ = run("A B", 1, warm_up=1)
    assert len(calls) == 8
    assert [sample.value for sample in results.samples] == [5, 6, 7, 8]


def test_who_fails_is_told_of_and_given_up_and_the_others_go_on() -> None:
    calls, results, _ = run("A bad never", 4)
    assert calls.count("1A") == 4
    assert calls.count("1bad") == 2
    assert calls.count("1never") == 1
    reasons = [(absence.contender, absence.reason) for absence in results.absences]
    assert reasons.count(("bad", "it broke")) == 4
    assert reasons.count(("never", "it has no disk")) == 2


def test_what_was_measured_before_an_interruption_is_kept() -> None:
    _, results, _ = run("A B", 5, interrupted=6)
    assert len(results.samples) == 5


def test_what_takes_very_long_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LONG", -1.0)
    calls, results, _ = run("A", 3, warm_up=1)
    assert len(calls) == len(results.samples) == 2
    assert "done once only" in results.absences[0].reason
