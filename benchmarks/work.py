"""benchmarks/workloads/parallel.c: what a host and its guests are to do alike."""

from __future__ import annotations

from corral.compare import metric_lines, programs

NAME = "parallel"


def program() -> str:
    """Its path, in the cache."""
    return str(programs.binary(NAME))


def rate(said: str) -> float | None:
    """Of a line that it printed, what it did in a second, in the line's unit; None for another line."""
    found = metric_lines.parse(said.encode())
    return found[1] if found and found[0] in ("stream", "chase", "linpack") else None
