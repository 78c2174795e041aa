"""What placement is worth: all cores of the host at work in one guest, with one part of Corral's placement at a time.

Against the same program as a process, with a thread on each core. Between nodes that differ this shows what a guest
loses by not seeing them, and what pinning its vCPUs, and telling it of nodes with memory bound to them, give back.
"""

from __future__ import annotations

from corral.compare import metric_lines, patience, programs
from corral.compare.contenders.base import PLACEMENTS, Contender, Failed, Job
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.config import MOST_CPUS
from corral.numa import host

PREFIX = "numa-"
LIMIT = 300.0  # seconds
PER_CPU = 192 << 20  # bytes of a guest's memory: the arrays take half of it


class PlacedMeasure(Measure):
    """`placement`: of contenders.base.Job."""

    def __init__(self, placement: str) -> None:
        self.name, self.title = PREFIX + placement, f"all cores at work; a guest {PLACEMENTS[placement]}"
        self._placement = placement

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        cores = one_of_each_core(place.all)
        job = Job(programs.binary("parallel"), memory=len(cores) * PER_CPU, cpus=len(cores), placement=self._placement)
        # Where a guest's vCPUs run is what is measured.
        with contender.started(job, place.all if contender.is_vm else cores) as process:
            process.succeed(patience.scaled(LIMIT))
            found = metric_lines.parse_all(contender.said(process))
            if not found:
                raise Failed(f"it printed no result{process.last_words()}")
        return found


def one_of_each_core(cpus: tuple[int, ...]) -> tuple[int, ...]:
    """The first CPU of each core, among these; of more cores than a guest can have vCPUs, every second or third."""
    first: dict[int, int] = {}
    for cpu in host.read().usable():
        if cpu.id in cpus:
            first.setdefault(cpu.core, cpu.id)
    found = sorted(first.values())
    return tuple(found[:: -(-len(found) // MOST_CPUS)])


def nodes() -> int:
    """How many of this host's nodes have CPUs that this process may use."""
    return len({cpu.node for cpu in host.read().usable()})
