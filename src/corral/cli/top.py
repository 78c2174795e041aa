"""corral top: what the guests that have a name do, each second."""

from __future__ import annotations

import os
import sys
import time

from corral.cli import terminal
from corral.cli.options import Command, Option, parse
from corral.errors import CorralError
from corral.running import control, counters, place
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.running.place import Guest

COMMAND = Command(
    name="top",
    summary="""\
Shows the guests that have a name (corral boot --name NAME), and what they do: CPU time of the guest and all that serves
it (100: one CPU), memory of this host that they hold, exits, and bytes from and to disks, and to and from the guest by
network, vsock and channel; all but memory for a second. Again each second, until Ctrl-C.""",
    options=(
        Option("once", "", "one look, of a second, and end"),
        Option("json", "", "for programs: a line for each second, an array of guests"),
    ),
    epilog="""\
examples:
  corral top
  corral top --once
  corral top --once --json""",
)
BETWEEN = 1.0  # seconds between two looks
PATIENCE = 0.5  # seconds that a guest's process has to tell
HEADS = ("NAME", "CPU %", "MEMORY", "OF", "EXITS/S", "READ/S", "WRITTEN/S", "TO GUEST/S", "FROM GUEST/S")
_KINDS = dict(zip(HEADS[4:], counters.NAMES, strict=True))
_STAT_UTIME, _STAT_STIME = 11, 12  # of /proc/PID/stat, behind the name of the program


@record(frozen=True)
class Look:
    """At one guest: `moment` in seconds, `cpu` seconds of its process so far, `memory` bytes that it holds. `counted`
    is {} where its process does not answer."""

    moment: float
    cpu: float
    memory: int
    counted: dict[str, int]


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    terminal.leave_on_signals()
    once, as_json = "once" in arguments.values, "json" in arguments.values
    before = _looks()
    while True:
        time.sleep(BETWEEN)
        now = _looks()
        facts = [_facts(guest, before.get(key), look) for key, (guest, look) in now.items()]
        _show(facts, as_json, once)
        if once:
            return 0
        before = now


def _looks() -> dict[tuple[str, int], tuple[Guest, Look]]:
    """At all guests that run, by name and process."""
    found = {}
    for guest in place.every():
        if guest.runs and guest.about and (look := _look(guest)):
            found[guest.name, guest.pid] = guest, look
    return found


def _look(guest: Guest) -> Look | None:
    """None: it has ended meanwhile."""
    try:
        with open(f"/proc/{guest.pid}/stat", "rb") as stat, open(f"/proc/{guest.pid}/statm", "rb") as statm:
            fields = stat.read().rpartition(b")")[2].split()
            pages = int(statm.read().split()[1])
    except (OSError, IndexError):
        return None
    ticks = int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])
    try:
        counted = counters.parse(control.ask(guest.path(place.CONTROL), "counters", PATIENCE))
    except (CorralError, ValueError):
        counted = {}
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return Look(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), memory, counted)


def _facts(guest: Guest, before: tuple[Guest, Look] | None, now: Look) -> dict[str, Any]:
    """Of a second; None where that is not known: of a guest that was not there, or does not answer."""
    earlier = before[1] if before else None
    seconds = now.moment - earlier.moment if earlier else 0.0
    facts: dict[str, Any] = {
        "name": guest.name,
        "pid": guest.pid,
        "cpu_percent": round(100 * (now.cpu - earlier.cpu) / seconds, 1) if earlier else None,
        "memory": now.memory,
        "guest_memory": guest.about.get("memory"),
    }
    for kind in counters.NAMES:
        known = earlier and kind in now.counted and kind in earlier.counted
        facts[kind] = round((now.counted[kind] - earlier.counted[kind]) / seconds) if known and earlier else None
    return facts


def _show(facts: list[dict[str, Any]], as_json: bool, once: bool) -> None:
    if as_json:
        import json

        print(json.dumps(facts), flush=True)
        return
    rows = [HEADS, *map(_row, facts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if not once:
        if os.isatty(1):
            sys.stdout.write("\x1b[H\x1b[2J")
        else:
            lines.append("")
    print("\n".join(lines), flush=True)


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    cpu, guest_memory = facts["cpu_percent"], facts["guest_memory"]
    cells = [facts["name"], "-" if cpu is None else f"{cpu:.0f}", _size(facts["memory"])]
    cells.append(_size(guest_memory) if isinstance(guest_memory, int) else "?")
    for head in HEADS[4:]:
        value = facts[_KINDS[head]]
        cells.append("-" if value is None else str(value) if head == "EXITS/S" else _size(value))
    return tuple(cells)


def _size(amount: int) -> str:
    for size, unit in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if amount >= size:
            return f"{amount / size:.1f}{unit}"
    return str(amount)
