"""The lines that a workload prints: `metric value unit`. They come from a guest, so they are hostile."""

from __future__ import annotations

import math
import re

MOST = 500  # metrics of one run
_LINE = re.compile(rb"([A-Za-z][\w.+-]{0,60}) ([0-9.eE+-]{1,30}) ([A-Za-z%][\w/%]{0,15})\r?\n?")


def parse(line: bytes) -> tuple[str, float, str] | None:
    """(metric, value, unit) of one line; None for a line that says something else, such as a kernel's."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    try:
        value = float(found[2])
    except ValueError:
        return None
    return (found[1].decode(), value, found[3].decode()) if math.isfinite(value) else None


def parse_all(lines: list[bytes]) -> dict[str, tuple[float, str]]:
    """Value and unit by metric; of a metric that comes twice, the last."""
    found: dict[str, tuple[float, str]] = {}
    for line in lines:
        one = parse(line)
        if one and (one[0] in found or len(found) < MOST):
            found[one[0]] = one[1:]
    return found
