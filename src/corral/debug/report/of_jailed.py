"""The clerk's work (jail/clerk.py): the report of a guest whose VMM is in the jail."""

from __future__ import annotations

import os

from corral.debug.report import full, screen, wire
from corral.jail import message
from corral.jail.clerk import DONE, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    serve(make)


def make(told: list[bytes], death: list[bytes], questions: int, answers: int) -> None:
    """`told` is from before the jail: the kernel's path, its command line, the path of a report in full, "" for none.
    `death` is what wire.packed() made, behind a headline. Raises BadMessage."""
    kernel, cmdline, report = map(os.fsdecode, told)
    headline, *fields = death
    got = wire.unpacked(fields, kernel, cmdline, wire.RemoteMemory(questions, answers))
    text = trouble = ""
    if not headline:
        text = screen.text(got.remains, got.outcome, got.console, got.shown)
    if report:
        first = headline.decode("utf-8", "replace") or text.partition("\n")[0]
        outcome = got.outcome
        whole = full.text(got.remains, first, outcome.cause, outcome.vcpu, got.console, got.exits)
        trouble = full.write(report, whole)
    message.send(answers, DONE, text.encode(), trouble.encode())
