"""The answers first: a sentence for each question that people come with, from the tables of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corral.compare.analysis import ResultRow, ResultTable
from corral.compare.numbers import number
from corral.compare.samples import Results, more_is_better
from corral.compare.statistics import FEWEST, Ratio

MACHINES = ("corral-clone", "corral")  # those that the sentences are about
CONTAINERS = ("runc", "podman", "docker", "bwrap")  # the first that was measured stands for all
NATIVE = "native"
COMPUTES = ("integer", "linpack", "stream")
NO_SPEED = ("eps",)  # units of metrics that tell whether a program did right
KERNEL_WORK = ("syscall", "pagefault", "forkexec", "switch", "pipe")


def sentences(results: Results, tables: Sequence[ResultTable]) -> list[str]:
    """Of what was measured, in the order of the questions: start, rate, memory, programs that compute, work of the
    kernel. Empty where nothing of it was."""
    found: list[str] = []
    if first := find(tables, "start", "first-line"):
        found += _pairs(first, results, f"%s says its first line after %s {first.unit}, %s after %s")
    if rates := [table for table in tables if table.measure.startswith("rate-") and table.metric == "rate"]:
        most = max(rates, key=_count)
        found += _pairs(most, results, f"With {_count(most)} at once %s starts and ends %s times a second, %s %s")
    if held := [table for table in tables if table.measure.startswith("memory-") and table.metric == "each"]:
        most = max(held, key=_count)
        found += _pairs(
            most, results, f"Each of {_count(most)} instances of %s holds %s {most.unit} of memory, of %s %s"
        )
    for machine in MACHINES:
        title = results.contenders.get(machine, machine)
        found += _shares(tables, COMPUTES, machine, f"Programs that compute run in {title} at %s of native speed")
        found += _shares(tables, KERNEL_WORK, machine, f"Work of the kernel runs in {title} at %s of native speed")
    return found


def find(tables: Sequence[ResultTable], measure: str, metric: str) -> ResultTable | None:
    return next((table for table in tables if (table.measure, table.metric) == (measure, metric)), None)


def _count(table: ResultTable) -> int:
    """How many were at once: the number in the measure's name."""
    return int(table.measure.rpartition("-")[2])


def _pairs(table: ResultTable, results: Results, pattern: str) -> Iterator[str]:
    """`pattern` has places for a machine, its median, a container and the median of this."""
    rows = {row.contender: row for row in table.rows}
    other = next((rows[name] for name in CONTAINERS if name in rows), None)
    for machine in [rows[name] for name in MACHINES if name in rows]:
        if other:
            said = pattern % (*_named(machine, results), *_named(other, results))
            yield f"{said[:1].upper()}{said[1:]}: {_difference(table.pairs.get((machine.contender, other.contender)))}."


def _named(row: ResultRow, results: Results) -> tuple[str, str]:
    return f"a {results.contenders[row.contender]}", number(row.summary.median)


def _difference(ratio: Ratio | None) -> str:
    if ratio is None or ratio.pairs < FEWEST:
        return f"fewer than {FEWEST} rounds, so no difference is shown"
    return f"{number(ratio.ratio)} x" if ratio.differs else "no difference that the samples show"


def _shares(tables: Sequence[ResultTable], measures: Sequence[str], machine: str, pattern: str) -> Iterator[str]:
    """Speed as a share of native, least and most of all metrics; a metric without a difference counts as 1."""
    shares: list[float] = []
    names: list[str] = []
    for table in tables:
        ratio = table.pairs.get((machine, NATIVE))
        if table.measure in measures and table.unit not in NO_SPEED and ratio and ratio.pairs >= FEWEST:
            speed = ratio.ratio if more_is_better(table.unit) else 1 / ratio.ratio
            shares.append(speed if ratio.differs else 1.0)
            names += [table.measure] if table.measure not in names else []
    if shares:
        least, most = number(min(shares)), number(max(shares))
        yield f"{pattern % (least if least == most else f'{least} to {most}')} ({', '.join(names)})."
