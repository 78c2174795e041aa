"""What is told of a guest that died. In the jail the clerk makes the report."""

from __future__ import annotations

import sys

from corral.debug.report import remains, wire
from corral.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.jail import Jail
    from corral.cli.report import DeathReport
    from corral.core.exits import Outcome
    from corral.machine import Machine


def report(
    outcome: Outcome,
    machine: Machine,
    console_tail: bytes,
    shown: bool,
    whole: DeathReport | None,
    jail: Jail | None,
) -> int:
    """On standard error, and in full where `whole` has a file for it. `console_tail` is what the guest said last;
    `shown`: that is on the screen. Returns the exit status."""
    found = remains.of(machine)
    if jail and jail.clerk:
        text = wire.ask(jail.clerk, found, outcome, console_tail, shown, whole.exits if whole else [])
    else:
        from corral.debug.report import screen

        text = screen.text(found, outcome, console_tail, shown)
    print(text, file=sys.stderr)
    if whole:
        if not jail:  # whose clerk has written it
            whole.write(found, outcome, text.partition("\n")[0], console_tail)
        print(f"corral: {whole.path} has the whole of it", file=sys.stderr)
    return GuestError.exit_status


def report_reset(
    outcome: Outcome, machine: Machine, console_tail: bytes, whole: DeathReport, jail: Jail | None
) -> None:
    """In full, if it reset without a word."""
    from corral.cli.report import of_reset

    headline = of_reset(outcome)
    if headline and jail and jail.clerk:
        wire.ask(jail.clerk, remains.of(machine), outcome, console_tail, False, whole.exits, headline)
    elif headline:
        whole.write(remains.of(machine), outcome, headline, console_tail)
