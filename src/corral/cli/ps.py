"""corral ps: the guests that have a name."""

from __future__ import annotations

import time

from corral.cli.options import Command, Option, parse
from corral.errors import CorralError
from corral.running import control, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.running.place import Guest

COMMAND = Command(
    name="ps",
    summary="Lists the guests that have a name (corral boot --name NAME), and run.",
    options=(
        Option("all", "", "those too that have ended: corral logs has what they said, corral rm removes them", "a"),
        Option("json", "", "for programs"),
    ),
    epilog="""\
examples:
  corral ps
  corral ps --all
  corral ps --json""",
)
PATIENCE = 1.0  # seconds that a guest's process has to tell whether it is paused


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    found = [_facts(guest) for guest in place.every() if guest.runs or "all" in arguments.values]
    if "json" in arguments.values:
        import json

        print(json.dumps(found, indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("NAME", "STATE", "PID", "SINCE", "MEMORY", "CPUS", "COMMAND")]
    rows += [_row(facts) for facts in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _facts(guest: Guest) -> dict[str, Any]:
    about = guest.about
    words = about.get("words")
    return {
        "name": guest.name,
        "state": _state(guest),
        "status": guest.status,
        "pid": guest.pid if guest.runs else None,
        "began": about.get("began"),
        "memory": about.get("memory"),
        "cpus": about.get("cpus"),
        "words": words if isinstance(words, list) else [],
        "vsock": guest.path(place.VSOCK),
    }


def _state(guest: Guest) -> str:
    if not guest.runs:
        return "killed" if guest.status is None else "ended"
    if not guest.about:
        return "starting"
    try:
        return control.ask(guest.path(place.CONTROL), "state", PATIENCE)
    except CorralError:
        return "does not answer"


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    began, memory = facts["began"], facts["memory"]
    state = f"ended ({facts['status']})" if facts["state"] == "ended" else facts["state"]
    since = _age(time.time() - began) if isinstance(began, int | float) else "?"
    size = f"{memory >> 20} MiB" if isinstance(memory, int) else "?"
    words = " ".join(map(str, facts["words"]))
    words = words if words.startswith("run ") else f"boot {words}"
    return facts["name"], state, str(facts["pid"] or "-"), since, size, str(facts["cpus"] or "?"), words


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
