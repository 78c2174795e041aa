"""A whole run, in order: who can run here, turns, and what is known about the machine. Read this first."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.compare import ledger, manifest, patience, programs, schedule
from corral.compare.contenders import Contender, Job, Kit, Unsuitable
from corral.compare.contenders.base import Failed, is_hello
from corral.compare.measures.base import Cpus, Measure
from corral.compare.processes import Household
from corral.compare.samples import Absence, Results
from corral.kvm.system import Kind, host_kind

PREFIX = "corral-compare-"
WORK = "/var/tmp"  # on a disk: layers are measured there
END = 30.0  # seconds


@dataclass(frozen=True)
class ExperimentRequest:
    """`rounds` that count, after `warm_up` ones. `pinned`: the CPUs that one contender alone has; `memory`: bytes of a
    guest's; `ledger`: whether the stages of a start are looked at."""

    contenders: Sequence[type[Contender]]
    measures: Sequence[Measure]
    rounds: int
    warm_up: int
    pinned: tuple[int, ...]
    memory: int
    ledger: bool = True


def run(request: ExperimentRequest, results: Results, progress: Callable[[float, str], None]) -> None:
    """Fills `results`; an exception that comes from outside, such as Ctrl-C, leaves in it what has been measured.

    Nothing runs any more afterwards, and nothing is left on disk but the caches.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=WORK, ignore_cleanup_errors=True) as folder:
        kit = Kit(Path(folder), request.memory)
        everybody = [contender(kit) for contender in request.contenders]
        results.contenders.update({contender.name: contender.title for contender in everybody})
        before = manifest.busy_seconds(), manifest.own_seconds(), time.monotonic()
        results.manifest.update(manifest.collect(everybody, request.rounds, request.pinned, request.memory))
        try:
            with Household():
                _measure(request, everybody, Path(folder), results, progress)
        finally:
            kit.tidy_up(kit.pending)
            for contender in everybody:
                contender.remove()
            results.manifest.update(manifest.after(*before))
            results.warnings += manifest.warnings(results.manifest)


def _measure(
    request: ExperimentRequest,
    everybody: Sequence[Contender],
    folder: Path,
    results: Results,
    progress: Callable[[float, str], None],
) -> None:
    present = []
    for contender in everybody:
        progress(0.0, f"trying {contender.name}")
        reason = probe(contender, results.ledger if request.ledger else None, request.pinned)
        if reason:
            results.absences.append(Absence(contender.name, "", reason))
        else:
            present.append(contender)
    place = Cpus(request.pinned, tuple(sorted(os.sched_getaffinity(0))), folder)
    schedule.run(present, request.measures, request.rounds, request.warm_up, place, results, progress)


def probe(contender: Contender, stages: dict[str, ledger.Rows] | None = None, cpus: Sequence[int] = ()) -> str:
    """Why a contender cannot run here, found by running the least of all programs in it; "" when it can.

    Where `stages` are wanted they are taken from the same run, and put there.
    """
    try:
        reason = contender.missing()
        if reason:
            return reason
        if stages is not None:
            stages[contender.name] = ledger.take(contender, cpus)
            return ""
        with contender.started(Job(programs.binary("hello"))) as process:
            process.until(is_hello, contender.patience())
            process.succeed(patience.scaled(END))
    except (Failed, Unsuitable) as found:
        foreign = contender.is_vm and contender.name != "corral" and host_kind() is Kind.PAGETABLE
        return str(found) + "; on a pagetable KVM other VMMs boot no Linux" * foreign
    return ""
