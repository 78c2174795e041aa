"""System calls as a picture: a row a task, a bar a call, as long as it took; and where the time went."""

from __future__ import annotations

from corral import notebook
from corral.debug.probes.summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.debug.probes.syscall import Syscall

MOST_ROWS, MOST_BARS, MOST_NAMES = 40, 2000, 12
_LEFT, _WIDTH, _ROW = 130, 830, 20  # px: names of tasks, bars, height of a row
_NARROWEST = 1.0
_LONGEST = 200  # characters that tell of a call


def html(calls: Sequence[Syscall], lost: int = 0) -> str:
    """Of calls that were traced; the newest MOST_BARS of them are drawn."""
    if not calls:
        return notebook.table([["system calls", "none was traced"]])
    drawn = sorted(calls[-MOST_BARS:], key=lambda call: call.time)
    rows: dict[int, str] = {}
    for call in drawn:
        if call.pid in rows or len(rows) < MOST_ROWS:
            rows[call.pid] = call.comm
    places = {pid: at for at, pid in enumerate(rows)}
    start, end = drawn[0].time, max(call.time + (call.duration or 0) for call in drawn)
    scale = _WIDTH / ((end - start) or 1)
    height = (len(rows) + 1) * _ROW
    parts = [
        f'<svg viewBox="0 0 {_LEFT + _WIDTH} {height}" width="100%" font-family="monospace" font-size="11" '
        'fill="currentColor">'
    ]
    parts += [
        f'<text x="0" y="{at * _ROW + 14}">{notebook.escaped(f"{rows[pid][:12]} {pid}")}</text>'
        for pid, at in places.items()
    ]
    parts += [_bar(call, places[call.pid], start, scale) for call in drawn if call.pid in places]
    span = f"{(end - start) / 1e6:.1f} ms"
    parts.append(f'<text x="{_LEFT}" y="{height - 6}">0</text>')
    parts.append(f'<text x="{_LEFT + _WIDTH}" y="{height - 6}" text-anchor="end">{span}</text></svg>')
    told = f"{len(calls)} system calls" + (f", {lost} more were lost" if lost else "")
    summed = [
        (name, count, f"{took / 1e6:.2f}", f"{took / 1e3 / count:.0f}", errors)
        for name, count, took, errors in Summary(calls).rows()[:MOST_NAMES]
    ]
    return "".join(parts) + notebook.table(summed, ("system call", "calls", "ms", "us each", "errors"), told)


def _bar(call: Syscall, row: int, start: int, scale: float) -> str:
    x, width = _LEFT + (call.time - start) * scale, max(_NARROWEST, (call.duration or 0) * scale)
    hue = sum(call.name.encode()) * 37 % 360  # a call has its colour wherever it stands
    told = notebook.escaped(str(call)[:_LONGEST])
    return (
        f'<rect x="{x:.2f}" y="{row * _ROW + 3}" width="{width:.2f}" height="{_ROW - 5}" fill="hsl({hue} 60% 50%)">'
        f"<title>{told}</title></rect>"
    )
