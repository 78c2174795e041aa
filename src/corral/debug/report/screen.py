"""One screen about a guest that died: why, where, with which registers, and the instructions around it."""

from __future__ import annotations

import textwrap

from corral.debug.report import parts
from corral.debug.report.cause import likely, panic
from corral.debug.report.guest import DeadGuest
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.exits import Outcome
    from corral.debug.report.remains import Remains

_INSTRUCTIONS, _LINES, _WIDTH = 5, 6, 100


def headline(outcome: Outcome) -> str:
    cause = outcome.cause.value if outcome.cause else outcome.over.value
    detail = f" ({outcome.detail})" if outcome.detail else ""
    return f"corral: the guest died: {cause}{detail}, on vCPU {outcome.vcpu}"


def text(remains: Remains, outcome: Outcome, console: bytes, shown: bool) -> str:
    """`console` is what it said last; `shown`: that is on the screen."""
    guest = DeadGuest(remains, outcome.vcpu)
    why = likely(guest, outcome.cause, console)
    if panic(console) is None:
        lines = [headline(outcome), *_wrapped(why), "", *parts.registers(guest), "", *parts.code(guest, _INSTRUCTIONS)]
        if guest.no_symbols:
            lines += ["", *_wrapped([guest.no_symbols])]
    else:  # the vCPU is in the reset that Linux does after it, so its code tells nothing
        lines = [f"corral: the guest died: {why[0]}", *_wrapped(why[1:])]
        lines += ["", "Its registers, of the reset after the panic:", *parts.registers(guest)]
    if not shown and (last := parts.console(console, _LINES)):
        lines += ["", "The last it said:", *last]
    return printable("\n".join(lines), keep="\n\t")


def _wrapped(sentences: list[str]) -> list[str]:
    return [line for sentence in sentences for line in textwrap.wrap(sentence, _WIDTH)]
