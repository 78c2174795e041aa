"""The results as text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from corral.compare import claims
from corral.compare.analysis import ResultTable
from corral.compare.numbers import number
from corral.compare.samples import Results
from corral.compare.statistics import Ratio


def text(results: Results, tables: Sequence[ResultTable]) -> str:
    """The answers, who is missing altogether, all tables, then what else is missing, then the warnings."""
    answers = claims.sentences(results, tables)
    lines = [*answers, *([""] if answers else []), *(f"note: {sentence}" for sentence in missing(results))]
    for table in tables:
        lines += ["", *_lines(table, results)]
    for name, stages in results.ledger.items():
        lines += ["", f"where a start's time goes, {results.contenders.get(name, name)} (ms)"]
        lines += [f"{number(row['end'] - row['begin']):>12}  {row['stage']}" for row in stages]
    if results.absences:
        lines += ["", "not measured"]
        lines += [_absence(results, *pair) for pair in summed(results)]
    if results.warnings:
        lines += ["", *(f"note: {warning}" for warning in results.warnings)]
    if results.interrupted:
        lines += ["", "interrupted: these are the samples that there were"]
    return "\n".join(lines).lstrip("\n")


def missing(results: Results) -> list[str]:
    """Of each contender that could not be measured at all a sentence: no figure that follows has it."""
    found = [absence for absence in results.absences if not absence.measure]
    return [f"{results.contenders.get(one.contender, one.contender)} is not in here: {one.reason}" for one in found]


def summed(results: Results) -> list[tuple[str, str, str]]:
    """(contender, measure, reason) of what is absent, each once."""
    return list(dict.fromkeys((a.contender, a.measure, a.reason) for a in results.absences))


def _lines(table: ResultTable, results: Results) -> list[str]:
    rounds = max(row.summary.count for row in table.rows)
    head = f"{table.name} ({table.unit}; {rounds} round{'s' * (rounds > 1)}; x is to {table.reference})"
    lines = [head, f"  {'':26}{'median':>12}{'95 % of it':>24}{'MAD':>10}  ratio"]
    for row in table.rows:
        summary = row.summary
        span = f" {number(summary.low)} to {number(summary.high)}"
        spread = f" {number(summary.mad)}"
        numbers = f"{number(summary.median):>12}{span:>24}{spread:>10}"
        lines.append(f"  {results.contenders[row.contender]:26}{numbers}  {row.verdict}{_limits(row.ratio)}".rstrip())
    return lines


def _limits(ratio: Ratio | None) -> str:
    if ratio is None or not ratio.differs:
        return ""
    return f" ({number(ratio.low)} to {number(ratio.high)})"


def _absence(results: Results, contender: str, measure: str, reason: str) -> str:
    return f"  {results.contenders.get(contender, contender)}{f', {measure}' * bool(measure)}: {reason}"
