"""Plots as SVG text. Colours are the page's, by CSS classes, so that they follow its light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from corral.compare.numbers import number

LEFT, WIDTH, RIGHT = 190, 720, 20  # pixels: names, everything, and the end
ROW, TOP, AXIS = 30, 8, 34
WIDE = 30.0  # times: with more between least and most an axis is logarithmic
TICKS = 6


@dataclass(frozen=True)
class Line:
    """One contender: all its samples, their median, and the interval of that."""

    label: str
    values: tuple[float, ...]
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Stage:
    """Part of a start: from `begin` to `end`, in milliseconds since the command."""

    label: str
    begin: float
    end: float


class Axis:
    """From a value to pixels; logarithmic when the values are far apart."""

    def __init__(self, values: Sequence[float], from_zero: bool = False) -> None:
        least, most = min(values), max(values)
        self.logarithmic = not from_zero and least > 0 and most / least > WIDE
        if self.logarithmic:
            self.low, self.high = 10.0 ** math.floor(math.log10(least)), 10.0 ** math.ceil(math.log10(most))
        else:
            self.low, self.high = (0.0 if least >= 0 else least), most or 1.0
            step = _step((self.high - self.low) / TICKS)
            self.low = math.floor(self.low / step) * step
            self.high = math.ceil(self.high / step) * step

    def x(self, value: float) -> float:
        if self.logarithmic:
            share = (math.log10(max(value, self.low)) - math.log10(self.low)) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = round(math.log10(self.high / self.low))
            return [self.low * 10.0**power for power in range(0, decades + 1, max(1, decades // TICKS))]
        step = _step((self.high - self.low) / TICKS)
        return [self.low + step * index for index in range(round((self.high - self.low) / step) + 1)]


def dots(lines: Sequence[Line], unit: str, title: str) -> str:
    """A dot for each sample, a tick at the median, a bar over its confidence interval."""
    axis = Axis([value for line in lines for value in (*line.values, line.low, line.high)])
    height = TOP + ROW * len(lines)
    parts = _frame(axis, height, f"{unit}{', logarithmic' * axis.logarithmic}")
    for index, line in enumerate(lines):
        y = TOP + ROW * index + ROW / 2
        parts.append(_label(line.label, y))
        left, right = axis.x(line.low), axis.x(line.high)
        parts.append(
            f'<rect class="ci" x="{left:.1f}" y="{y - 7:.1f}" width="{max(1, right - left):.1f}" height="14"/>'
        )
        parts += [f'<circle class="dot" cx="{axis.x(value):.1f}" cy="{y:.1f}" r="3"/>' for value in line.values]
        x = axis.x(line.median)
        parts.append(
            f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10:.1f}" y2="{y + 10:.1f}">'
            f"<title>{escape(line.label)}: median {number(line.median)} {escape(unit)}</title></line>"
        )
    return _svg(parts, height + AXIS, title)


def stages(found: Sequence[Stage], title: str) -> str:
    """A bar for each stage, one below the other, where it is in time."""
    axis = Axis([0.0, *(stage.end for stage in found)], from_zero=True)
    height = TOP + ROW * len(found)
    parts = _frame(axis, height, "ms since the command")
    for index, stage in enumerate(found):
        y = TOP + ROW * index + ROW / 2
        left, right = axis.x(stage.begin), axis.x(stage.end)
        parts.append(_label(stage.label, y))
        parts.append(
            f'<rect class="stage" x="{left:.1f}" y="{y - 8:.1f}" width="{max(1, right - left):.1f}" height="16">'
            f"<title>{escape(stage.label)}: {number(stage.end - stage.begin)} ms</title></rect>"
        )
        spent = f"{number(stage.end - stage.begin)} ms"
        room = right + 8 * len(spent) < WIDTH
        at, anchor = (right + 5, "start") if room else (left - 5, "end")
        parts.append(f'<text class="value" x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{spent}</text>')
    return _svg(parts, height + AXIS, title)


def _frame(axis: Axis, height: float, caption: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height + 14}" text-anchor="middle">{number(tick, True)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{height + 29}" text-anchor="middle">{escape(caption)}</text>')
    return parts


def _label(text: str, y: float) -> str:
    return f'<text class="name" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}"'
    return f"<svg {box}><title>{escape(title)}</title>{''.join(parts)}</svg>"


def _step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
