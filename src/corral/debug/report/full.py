"""All that can be said about a guest that died, or is paused, for a file."""

from __future__ import annotations

from corral import voice
from corral.debug.report import parts, remains
from corral.debug.report.cause import likely
from corral.debug.report.guest import DeadGuest
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.core.exits import Cause
    from corral.machine import Machine
    from corral.observe.exit_trace import TracedExit

EXITS = 128  # that are kept of each vCPU, a power of two; the last 100 are told
_TOLD = 100
_INSTRUCTIONS, _BEFORE, _LINES = 12, 8, 60


def text(
    of: remains.Remains,
    headline: str,
    cause: Cause | None = None,
    vcpu: int = 0,
    console: bytes = b"",
    exits: Iterable[TracedExit] | None = None,
) -> str:
    """`exits` in the order of time, None where there are none. Whatever is in the text, a terminal only shows it."""
    guest = DeadGuest(of, vcpu)
    version = f"kernel {of.kernel}"
    sections = [
        (headline, [*likely(guest, cause, console), version, f"its command line: {of.cmdline}"]),
        ("Registers", [*parts.registers(guest), *parts.tables(guest)]),
        ("Code", [*parts.code(guest, _INSTRUCTIONS, _BEFORE), *([guest.no_symbols] if guest.no_symbols else [])]),
        ("Stack", parts.backtrace(guest)),
        (
            "Page walks",
            [
                *parts.page_walk(guest, "RIP", guest.rip),
                *parts.page_walk(guest, "RSP", guest.rsp),
                *parts.page_walk(guest, "CR2, where the last page fault was,", int(guest.sregs.cr2)),
            ],
        ),
        ("Interrupt table", parts.interrupt_table(guest)),
    ]
    for other in range(len(of.vcpus)):
        if other != vcpu:
            sections.append((f"vCPU {other}", [*parts.registers(DeadGuest(of, other))]))
    if exits is not None:
        sections.append((f"The last {_TOLD} exits", parts.exits(list(exits)[-_TOLD:], guest)))
    sections.append(("The last it said", parts.console(console, _LINES) or ["nothing"]))
    parts_of_text: list[str] = []
    for title, lines in sections:
        underline = ["-" * len(title)] if parts_of_text else []
        parts_of_text.append("\n".join([title, *underline, *lines]))
    return printable("\n\n".join(parts_of_text), keep="\n\t") + "\n"


def of_paused(machine: Machine, vcpu: int, console: bytes) -> str:
    """Of a guest that is paused and may have ended, seen from that vCPU, or from the one that ended it."""
    found = remains.of(machine)
    for thread in machine.threads:
        if thread.end:
            return text(found, f"the guest ended: {thread.end}", thread.end.cause, thread.index, console)
    return text(found, f"a guest that is paused, vCPU {vcpu}", None, vcpu, console)


def write(path: str, whole: str) -> str:
    """To that file; the cause where that cannot be, "" else."""
    try:
        with open(path, "w", opener=voice.opener) as file:
            file.write(whole)
    except OSError as error:
        return f"--report: cannot write {path!r}: {error.strerror}; name another file"
    return ""
