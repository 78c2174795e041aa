"""corral strace: the system calls of a guest that runs."""

from __future__ import annotations

import json
import sys

from corral.cli import guest_name, terminal
from corral.cli.options import Command, Option, seconds
from corral.config import parse_number
from corral.errors import ConfigError
from corral.printable import printable
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.debug.probes.syscall import Syscall

COMMAND = Command(
    name="strace",
    summary="""\
The system calls of all programs of the guest NAME, as they end: which, by whom, what came of it and how long it took.
Nothing is needed in the guest, and its programs do not notice but by their clocks: a call takes some 0.2 ms longer.
Its kernel must have symbols, as Corral's and distributions' have. Ctrl-C ends it, and the guest goes on.""",
    operands=("NAME",),
    options=(
        Option("only", "CALL", "only this system call, like openat; may be repeated", short="e"),
        Option("pid", "N", "only of this process of the guest's", short="p"),
        Option("count", "N", "ends after so many", short="n"),
        Option("for", "S", "ends after so many seconds"),
        Option(
            "summary", "", "at the end: how often each was called, how long that took, how often it failed", short="c"
        ),
        Option("json", "", "a line of JSON for each"),
    ),
    epilog="""\
examples:
  corral strace web
  corral strace web -e openat -e execve
  corral strace web --summary --for 5""",
)


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    values = arguments.values
    only = set(arguments.every.get("only", []))
    pid = parse_number(values["pid"], "--pid") if "pid" in values else None
    most = parse_number(values["count"], "--count") if "count" in values else None
    limit = seconds(values["for"], "--for") if "for" in values else None
    guest = place.running(arguments.operands[0])
    from corral.debug.probes import remote
    from corral.debug.probes.summary import Summary
    from corral.running.attached import Attached

    kernel = guest.about.get("kernel")
    if not isinstance(kernel, str):
        raise ConfigError(f"the guest {guest.name!r} has not begun yet; try again when corral ps shows that it runs")
    request = remote.request(kernel)
    terminal.leave_on_signals()
    summary = Summary() if "summary" in values else None
    shown = lost = 0
    try:
        with Attached(guest.path(place.CONTROL), request) as connection:
            connection.ends_in(limit)
            for call in remote.calls(connection):
                if isinstance(call, int):
                    lost += call
                elif (not only or call.name in only) and pid in (None, call.tgid):
                    shown += 1
                    if summary:
                        summary.add(call)
                    else:
                        print(_line(call, "json" in values), flush=True)
                    if shown == most:
                        break
    finally:
        if summary:
            print(summary.text())
        if lost:
            print(f"corral: {lost} system calls came faster than they could be told, and were lost", file=sys.stderr)
    return 0


def _line(call: Syscall, as_json: bool) -> str:
    if as_json:
        plain = {name: getattr(call, name) for name in type(call).__match_args__}
        return json.dumps(plain | {"strings": dict(call.strings)})
    return printable(f"[{call.comm} {call.pid}] {call}")
