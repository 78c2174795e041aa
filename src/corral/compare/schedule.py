"""The order of a run: A B C D A B C D, so that whatever drifts on this machine hits all contenders alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from corral.compare.contenders.base import Contender, Failed, Unsuitable
from corral.compare.measures.base import Measure, Place
from corral.compare.samples import Absence, Results, Sample

PATIENCE = 2  # failures in a row, after which a contender is not asked for the same measure again


def run(
    contenders: Sequence[Contender],
    measures: Sequence[Measure],
    rounds: int,
    warm_up: int,
    place: Place,
    results: Results,
    progress: Callable[[float, str], None],
) -> None:
    """Adds samples to `results` as they are taken, so that an exception leaves those which are there.

    Of `warm_up` rounds before the first nothing is kept. `progress` is called with a share from 0 to 1.
    """
    begun = time.monotonic()
    out: set[tuple[Contender, Measure]] = set()
    failures: dict[tuple[Contender, Measure], int] = {}
    pairs = [(contender, measure) for measure in measures for contender in contenders]
    total = sum(measure.takes(contender) for contender, measure in pairs) * (rounds + warm_up)
    done = 0.0
    for index in range(-warm_up, rounds):
        for pair in pairs:
            contender, measure = pair
            what = "warming up" if index < 0 else f"round {index + 1} of {rounds}"
            progress(min(1.0, done / total), f"{what}: {measure.name}, {contender.name}")
            done += measure.takes(contender)
            if pair in out:
                continue
            try:
                at = time.monotonic() - begun
                metrics = measure.take(contender, place)
            except Unsuitable as reason:
                out.add(pair)
                results.absences.append(Absence(contender.name, measure.name, str(reason)))
            except Failed as reason:
                failures[pair] = failures.get(pair, 0) + 1
                if failures[pair] >= PATIENCE:
                    out.add(pair)
                if index >= 0 or pair in out:
                    results.absences.append(Absence(contender.name, measure.name, f"round {index + 1}: {reason}"))
            else:
                failures[pair] = 0
                if index >= 0:
                    results.samples += [
                        Sample(contender.name, measure.name, metric, value, unit, index, at)
                        for metric, (value, unit) in metrics.items()
                    ]
    progress(1.0, "done")
