"""Plots as SVG text. Colours are the page's, by CSS classes, so that they follow its light or dark scheme.

Each is drawn for a wide page, with names beside the rows, or for a narrow one, with names above them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from corral.compare.numbers import number

WIDE_PAGE, NARROW_PAGE = 720, 360  # pixels of a plot; its text is as large as it is drawn
LETTER = 7.0  # pixels, at most, of a letter in such a text
GAP, EDGE = 10, 6  # pixels: from a name to its row, and to the plot's end
ROW, TOP, AXIS = 30, 8, 34
NAME = 16  # pixels that a name above its row takes
LONGEST = 46  # letters of a name; a longer one is cut
WIDE = 30.0  # times: with more between least and most an axis is logarithmic
TICKS = 6


@dataclass(frozen=True)
class PlotLine:
    """One contender: all its samples, and their median with its interval."""

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

    def __init__(self, values: Sequence[float], from_zero: bool = False, ticks: int = TICKS) -> None:
        least, most = min(values), max(values)
        self.logarithmic = not from_zero and least > 0 and most / least > WIDE
        self._most = ticks
        if self.logarithmic:
            self.low, self.high = 10.0 ** math.floor(math.log10(least)), 10.0 ** math.ceil(math.log10(most))
        else:
            self.low, self.high = (0.0 if least >= 0 else least), most or 1.0
            step = _step((self.high - self.low) / ticks)
            self.low = math.floor(self.low / step) * step
            self.high = math.ceil(self.high / step) * step

    def share(self, value: float) -> float:
        """0 at the axis's beginning, 1 at its end."""
        if self.logarithmic:
            return (math.log10(max(value, self.low)) - math.log10(self.low)) / math.log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = round(math.log10(self.high / self.low))
            every = -(-decades // self._most)
            return [self.low * 10.0**power for power in range(0, decades + 1, every)]
        step = _step((self.high - self.low) / self._most)
        return [self.low + step * index for index in range(round((self.high - self.low) / step) + 1)]


class Frame:
    """Where rows with these names are, and what is around them: no text of it is cut off at an edge."""

    def __init__(self, names: Sequence[str], values: Sequence[float], narrow: bool, from_zero: bool = False) -> None:
        self.narrow = narrow
        self.width = NARROW_PAGE if narrow else WIDE_PAGE
        self.axis = Axis(values, from_zero, TICKS // 2 if narrow else TICKS)
        texts = [number(tick, True) for tick in self.axis.ticks()]
        self._names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
        half = [EDGE + LETTER * len(text) / 2 for text in (texts[0], texts[-1])]
        longest = max(map(len, self._names)) * LETTER
        self.left = half[0] if narrow else max(half[0], EDGE + longest + GAP)
        self.right = self.width - half[1]
        self._row = ROW + NAME * narrow
        self.height = TOP + self._row * len(names)

    def x(self, value: float) -> float:
        return self.left + self.axis.share(value) * (self.right - self.left)

    def y(self, index: int) -> float:
        """The middle of a row."""
        return TOP + self._row * (index + 1) - ROW / 2

    def around(self, caption: str) -> list[str]:
        """The grid, the axis, and the rows' names."""
        parts = []
        for tick in self.axis.ticks():
            x, text = self.x(tick), number(tick, True)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.height}"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{self.height + 14}" text-anchor="middle">{text}</text>')
        middle = (self.left + self.right) / 2
        parts.append(
            f'<text class="tick" x="{middle:.1f}" y="{self.height + 29}" text-anchor="middle">{escape(caption)}</text>'
        )
        for index, name in enumerate(self._names):
            if self.narrow:
                place = f'x="{EDGE}" y="{self.y(index) - ROW / 2 - 2:.1f}"'
            else:
                place = f'x="{self.left - GAP:.1f}" y="{self.y(index) + 4:.1f}" text-anchor="end"'
            parts.append(f'<text class="name" {place}>{escape(name)}</text>')
        return parts

    def svg(self, parts: Sequence[str], title: str) -> str:
        box = f'viewBox="0 0 {self.width} {self.height + AXIS:.0f}"'
        label = f'role="img" aria-label="{escape(title, quote=True)}"'
        return f"<svg {box} {label}><title>{escape(title)}</title>{''.join(parts)}</svg>"


def dots(lines: Sequence[PlotLine], unit: str, title: str, narrow: bool = False) -> str:
    """A dot for each sample, a tick at the median, a bar over its confidence interval."""
    names = [line.label for line in lines]
    frame = Frame(names, [value for line in lines for value in (*line.values, line.low, line.high)], narrow)
    parts = frame.around(f"{unit}{', logarithmic' * frame.axis.logarithmic}")
    for index, line in enumerate(lines):
        y, left, right = frame.y(index), frame.x(line.low), frame.x(line.high)
        parts.append(
            f'<rect class="ci" x="{left:.1f}" y="{y - 7:.1f}" width="{max(1, right - left):.1f}" height="14"/>'
        )
        parts += [f'<circle class="dot" cx="{frame.x(value):.1f}" cy="{y:.1f}" r="3"/>' for value in line.values]
        x = frame.x(line.median)
        parts.append(
            f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10:.1f}" y2="{y + 10:.1f}">'
            f"<title>{escape(line.label)}: median {number(line.median)} {escape(unit)}</title></line>"
        )
    return frame.svg(parts, title)


def bars(lines: Sequence[PlotLine], unit: str, title: str, narrow: bool = False) -> str:
    """A bar from zero to each median, with its number and its confidence interval."""
    frame = Frame([line.label for line in lines], [0.0, *(line.high for line in lines)], narrow, from_zero=True)
    parts = frame.around(unit)
    for index, line in enumerate(lines):
        y, left, right = frame.y(index), frame.x(0.0), frame.x(line.median)
        low, high, said = frame.x(line.low), frame.x(line.high), f"{number(line.median)} {unit}"
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{y - 9:.1f}" width="{max(1, right - left):.1f}" height="18"/>'
        )
        parts.append(f'<line class="median" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_beside(frame, min(left, low), max(right, high), y, said))
    return frame.svg(parts, title)


def stages(found: Sequence[Stage], title: str, narrow: bool = False) -> str:
    """A bar for each stage, one below the other, where it is in time."""
    names = [stage.label for stage in found]
    frame = Frame(names, [0.0, *(stage.end for stage in found)], narrow, from_zero=True)
    parts = frame.around("ms since the command")
    for index, stage in enumerate(found):
        y, left, right = frame.y(index), frame.x(stage.begin), frame.x(stage.end)
        spent = f"{number(stage.end - stage.begin)} ms"
        parts.append(
            f'<rect class="stage" x="{left:.1f}" y="{y - 8:.1f}" width="{max(1, right - left):.1f}" height="16">'
            f"<title>{escape(stage.label)}: {spent}</title></rect>"
        )
        parts.append(_beside(frame, left, right, y, spent))
    return frame.svg(parts, title)


def _beside(frame: Frame, left: float, right: float, y: float, said: str) -> str:
    """What a bar from `left` to `right` stands for: after it, or before it where there is no room."""
    room = right + 5 + LETTER * len(said) < frame.width
    at, anchor = (right + 5, "start") if room else (left - 5, "end")
    return f'<text class="value" x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def _step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
