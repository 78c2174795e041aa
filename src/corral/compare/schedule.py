"""The order of a run: A B C D A B C D, so that whatever drifts on this machine hits all contenders alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from corral.compare.contenders.base import Contender, Failed, Unsuitable
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.compare.samples import Absence, Results, Sample

PATIENCE = 2  # failures in a row, after which a contender is not asked for the same measure again
LONG = 120.0  # seconds: what takes longer is done once


def run(
    contenders: Sequence[Contender],
    measures: Sequence[Measure],
    rounds: int,
    warm_up: int,
    place: Cpus,
    results: Results,
    progress: Callable[[float, str], None],
) -> None:
    """Adds samples to `results` as they are taken, so that an exception leaves those which are there.

    Of `warm_up` rounds before the first nothing is kept. `progress` is called with a share from 0 to 1.
    """
    begun = time.monotonic()
    pairs = [_Pair(contender, measure) for measure in measures for contender in contenders]
    for index in range(-warm_up, rounds):
        for at, pair in enumerate(pairs):
            if pair.out:
                continue
            what = "warming up" if index < 0 else f"round {index + 1} of {rounds}"
            left = _left(pairs, at, rounds - index)
            passed = time.monotonic() - begun
            progress(passed / (passed + left), f"{what}: {pair.measure.name}, {pair.contender.name}")
            try:
                metrics = pair.take(place)
            except (Failed, Unsuitable) as reason:
                if index >= 0 or pair.out:
                    results.absences.append(Absence(pair.contender.name, pair.measure.name, str(reason)))
                continue
            if index >= 0 or pair.seconds > LONG:
                results.samples += [
                    Sample(pair.contender.name, pair.measure.name, metric, value, unit, max(0, index), passed)
                    for metric, (value, unit) in metrics.items()
                ]
            if pair.seconds > LONG and rounds > 1:
                pair.out = True
                reason_why = f"done once only: it takes {pair.seconds:.0f} s"
                results.absences.append(Absence(pair.contender.name, pair.measure.name, reason_why))
    progress(1.0, "done")


class _Pair:
    """A contender and a measure; `seconds` is what a sample takes, as last seen."""

    def __init__(self, contender: Contender, measure: Measure) -> None:
        self.contender, self.measure = contender, measure
        self.seconds = 1.0
        self.out = False
        self._failures = 0

    def take(self, place: Cpus) -> Metrics:
        begun = time.monotonic()
        try:
            metrics = self.measure.take(self.contender, place)
        except Unsuitable:
            self.out = True
            raise
        except Failed:
            self._failures += 1
            self.out = self._failures >= PATIENCE
            raise
        finally:
            self.seconds = time.monotonic() - begun
        self._failures = 0
        return metrics


def _left(pairs: Sequence[_Pair], at: int, rounds: int) -> float:
    """About how many seconds there are to go: the rest of this round, and `rounds` - 1 whole ones."""
    rest = sum(pair.seconds for pair in pairs[at:] if not pair.out)
    return rest + (rounds - 1) * sum(pair.seconds for pair in pairs if not pair.out)
