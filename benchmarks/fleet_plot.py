"""python -m benchmarks.fleet_plot FILE: the plot of docs/fleet.md, of what benchmarks/fleet_model.py simulates."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from benchmarks.fleet_model import Costs, Outcome, sweep

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 70, 50, 40, 20
COLOURS = ("#1f6feb", "#bf8700", "#1a7f37")
X_RANGE, Y_RANGE = (0.0, 4.0), (2.0, 6.0)  # powers of ten: nodes, guests a second


def x(nodes: float) -> float:
    return LEFT + (math.log10(nodes) - X_RANGE[0]) / (X_RANGE[1] - X_RANGE[0]) * (WIDTH - LEFT - RIGHT)


def y(rate: float) -> float:
    share = (math.log10(rate) - Y_RANGE[0]) / (Y_RANGE[1] - Y_RANGE[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def number(power: int) -> str:
    return f"{10**power:,}"


def drawn(curves: list[tuple[str, list[Outcome]]], cpu_bound: float) -> str:
    """SVG. `cpu_bound`: guests a second that one node's CPUs could start."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">Guests a second, of a million (simulated)</text>',
    ]
    for power in range(int(X_RANGE[0]), int(X_RANGE[1]) + 1):
        at = x(10**power)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(power)}</text>')
    for power in range(int(Y_RANGE[0]), int(Y_RANGE[1]) + 1):
        at = y(10**power)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number(power)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">nodes of 32 CPUs</text>')
    ideal = [(nodes, cpu_bound * nodes) for nodes in (1, 10_000) if cpu_bound * nodes <= 10 ** Y_RANGE[1]]
    if len(ideal) == 1:
        ideal.append((10 ** Y_RANGE[1] / cpu_bound, 10 ** Y_RANGE[1]))
    points = " ".join(f"{x(nodes):.1f},{y(rate):.1f}" for nodes, rate in ideal)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#8c959f" stroke-dasharray="4 4"/>')
    names = [("what the nodes' CPUs alone could start", "#8c959f")]
    for (name, outcomes), colour in zip(curves, COLOURS, strict=True):
        points = " ".join(f"{x(one.shape.nodes):.1f},{y(one.rate):.1f}" for one in outcomes)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(one.shape.nodes):.1f}" cy="{y(one.rate):.1f}" r="3" fill="{colour}"/>' for one in outcomes
        ]
        names.append((name, colour))
    for index, (name, colour) in enumerate(names):
        at = TOP + 14 + index * 18
        parts.append(f'<rect x="{LEFT + 10}" y="{at - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 30}" y="{at - 3}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main(path: str) -> None:
    costs = Costs()
    curves = list(sweep(costs))
    for name, outcomes in curves:
        print(f"\n{name}\n  {'nodes':>7} {'seconds':>9} {'guests/s':>10}  busy most")
        for one in outcomes:
            print(f"  {one.shape.nodes:7} {one.seconds:9.1f} {one.rate:10.0f}  {one.first} ({one.busy[one.first]:.0%})")
    Path(path).write_text(drawn(curves, 32 / costs.guest_cpu))


if __name__ == "__main__":
    main(sys.argv[1])
