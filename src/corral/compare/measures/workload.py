"""A workload's own lines: it measures itself, inside of whatever it runs in."""

from __future__ import annotations

from corral.compare import metric_lines, names, patience, programs
from corral.compare.contenders.base import Contender, Failed, Job, Unsuitable
from corral.compare.measures.base import Cpus, Measure, Metrics

NOT_HERE = 77  # a workload's exit status: it cannot be measured where it is, and its last line says why
LIMIT = 300.0  # seconds


class Workload(Measure):
    """`scratch`: MiB of the disk that its arguments name."""

    def __init__(self, name: str, arguments: tuple[str, ...] = (), scratch: int = 0) -> None:
        self.name, self.title = name, names.WORKLOADS.get(name, f"the program {name}")
        self._arguments, self._scratch = arguments, scratch

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        disk = place.folder / f"scratch-{self.name}" if self._scratch else None
        if disk:
            with disk.open("wb") as file:
                file.truncate(self._scratch << 20)
        with contender.started(Job(programs.binary(self.name), self._arguments, disk), place.pinned) as process:
            try:
                process.succeed(patience.scaled(LIMIT))
            except Failed:
                if process.status == NOT_HERE:
                    raise Unsuitable(process.last_words().removeprefix(": ")) from None
                raise
            found = metric_lines.parse_all(contender.said(process))
            if not found:
                raise Failed(f"it printed no result{process.last_words()}")
        return found
