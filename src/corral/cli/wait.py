"""corral wait: until a guest that has a name has ended."""

from __future__ import annotations

import time

from corral.cli import guest_name
from corral.cli.options import Command, Option, seconds
from corral.errors import GuestError, GuestTimeout
from corral.running import place

COMMAND = Command(
    name="wait",
    summary="Waits until a guest has ended; its exit status is corral's, also of one that has ended already.",
    operands=("NAME",),
    options=(Option("timeout", "S", "no longer than S seconds: exit status 124, and the guest goes on"),),
    epilog="""\
examples:
  corral wait web
  corral wait --timeout 10 web""",
)


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    guest = place.find(arguments.operands[0])
    limit = seconds(arguments.values["timeout"]) if "timeout" in arguments.values else None
    if not guest.wait(None if limit is None else time.monotonic() + limit):
        raise GuestTimeout(f"the guest {guest.name} still runs after {limit:g} s")
    status = place.find(guest.name).status
    if status is None:
        raise GuestError(f"the process of the guest {guest.name} was killed")
    return status
