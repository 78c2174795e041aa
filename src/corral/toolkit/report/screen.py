"""One screen about a guest that died: why, where, with which registers, and the instructions around it."""

from __future__ import annotations

import textwrap

from corral.toolkit.report import parts
from corral.toolkit.report.cause import likely
from corral.toolkit.report.guest import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine, Outcome

_INSTRUCTIONS, _LINES = 5, 6


def headline(outcome: Outcome, panicked: bool) -> str:
    cause = "Linux panicked" if panicked else outcome.cause.value if outcome.cause else outcome.over.value
    detail = f" ({outcome.detail})" if outcome.detail else ""
    return f"corral: the guest died: {cause}{detail}, on vCPU {outcome.vcpu}"


def text(machine: Machine, outcome: Outcome, console: bytes, shown: bool) -> str:
    """The machine has stopped and is not closed. `console` is what it said last; `shown`: that is on the screen."""
    guest = Guest(machine, outcome.vcpu)
    why = likely(guest, outcome.cause, console)
    lines = [headline(outcome, bool(why) and why[0].startswith("Linux panicked"))]
    lines += [line for sentence in why for line in textwrap.wrap(sentence, 100)]
    lines += ["", *parts.registers(guest), "", *parts.code(guest, _INSTRUCTIONS)]
    if not shown and (last := parts.console(console, _LINES)):
        lines += ["", "The last it said:", *last]
    return "\n".join(lines)
