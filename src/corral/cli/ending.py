"""How a guest has ended, as an exit status."""

from __future__ import annotations

import sys

from corral.errors import GuestError, GuestTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.exits import Outcome
    from corral.machine import Machine

NO_READER = 141  # as a shell tells of SIGPIPE
QUIT = 130  # as a shell tells of Ctrl-C


class Closing:
    """Closes a machine, and tells of what is left of it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> Machine:
        return self._machine

    def __exit__(self, *exception: object) -> None:
        self._machine.close()
        if self._machine.unanswered:
            said = "a disk's image does not answer; the host may keep this process until it does"
            print(f"corral: {said}", file=sys.stderr)


def died(outcome: Outcome, console_tail: bytes) -> bool:
    """Whether the guest's end was none that it wanted."""
    from corral.core.exits import Cause

    if outcome.cause is Cause.RESET and outcome.status is None:
        return b"Kernel panic - not syncing" in console_tail
    return outcome.cause is not None and not outcome.cause.clean


def conclude(outcome: Outcome, has_command: bool, timeout: float | None, unseen: bytes) -> int:
    """The exit status of a guest that did not die, and the words that go with it. `unseen` is the end of its console,
    where that went nowhere that a person would look. Raises GuestTimeout, GuestError."""
    from corral.core.exits import Cause, Over

    if outcome.over is Over.TIMEOUT:
        raise GuestTimeout(f"the guest did not end within {timeout:g} s and was stopped")
    if outcome.over is Over.CLOSED:
        return NO_READER
    if outcome.over is Over.QUIT:
        print(file=sys.stderr)  # the guest left the cursor anywhere
    # Who powers off means it.
    if outcome.status is None and has_command and outcome.cause is not Cause.POWER_OFF:
        if outcome.over is Over.QUIT:
            return QUIT
        if said := unseen.decode("utf-8", "replace").replace("\r", "").strip():
            print(said, file=sys.stderr)
        raise GuestError("the guest ended without telling the exit status of its command; see its console for why")
    return outcome.status or 0
