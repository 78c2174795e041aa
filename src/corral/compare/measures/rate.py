"""How fast instances come and go when so many are at work at once."""

from __future__ import annotations

import time
from contextlib import ExitStack

from corral.compare import patience, programs
from corral.compare.contenders.base import Contender, Failed, Job, is_hello
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.compare.processes import GLANCE, Measured, serve
from corral.compare.statistics import quantile

TURNS = 2  # instances, for each that is at work at once
FEWEST = 10
LONGEST = 900.0  # seconds


class Rate(Measure):
    """Each instance runs hello to its end; when one has ended the next begins. On all CPUs."""

    def __init__(self, at_once: int, fewest: int = FEWEST) -> None:
        self.name = f"rate-{at_once}"
        self.title = f"created and destroyed, {at_once} at once"
        self._at_once, self._count = at_once, max(TURNS * at_once, fewest)

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        job = Job(programs.binary("hello"))
        launches = [contender.launch(job) for _ in range(self._count)]
        lives: list[float] = []
        longest = patience.scaled(LONGEST)
        begun = time.monotonic()
        with ExitStack() as all_of_them:
            living: dict[Measured, ExitStack] = {}
            while launches or living:
                while launches and len(living) < self._at_once:
                    own = all_of_them.enter_context(ExitStack())
                    living[own.enter_context(contender.running(launches.pop(), place.all))] = own
                serve(list(living), GLANCE)
                for process in [process for process in living if process.ended is not None]:
                    end = process.succeed(0)
                    if not any(is_hello(line) for line in contender.said(process)):
                        raise Failed(f"an instance ended without its line{process.last_words()}")
                    lives.append((end - process.begun) * 1e3)
                    living.pop(process).close()
                if time.monotonic() - begun > longest:
                    raise Failed(f"{self._count} instances did not come and go within {longest:.3g} s")
        seconds = time.monotonic() - begun
        return {
            "rate": (self._count / seconds, "1/s"),
            "life-p50": (quantile(lives, 0.5), "ms"),
            "life-p99": (quantile(lives, 0.99), "ms"),
        }
