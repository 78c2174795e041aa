"""All that can be said about a guest that died, or is paused, for a file."""

from __future__ import annotations

from corral.toolkit.report import parts
from corral.toolkit.report.cause import likely
from corral.toolkit.report.guest import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.exits import Cause
    from corral.machine import Machine
    from corral.toolkit.exit_trace import Exit

EXITS = 128  # that are kept of each vCPU, a power of two; the last 100 are told
_TOLD = 100
_INSTRUCTIONS, _BEFORE, _LINES = 12, 8, 60


def text(
    machine: Machine,
    headline: str,
    cause: Cause | None = None,
    vcpu: int = 0,
    console: bytes = b"",
    exits: Iterable[Exit] | None = None,
) -> str:
    """The vCPUs have stopped, or are paused. `exits` in the order of time, None where nobody recorded them."""
    guest = Guest(machine, vcpu)
    version = f"kernel {machine.config.kernel}"
    sections = [
        (headline, [*likely(guest, cause, console), version, f"its command line: {machine.config.cmdline}"]),
        ("Registers", [*parts.registers(guest), *parts.tables(guest)]),
        ("Code", parts.code(guest, _INSTRUCTIONS, _BEFORE)),
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
    for other in range(len(machine.vcpus)):
        if other != vcpu:
            sections.append((f"vCPU {other}", [*parts.registers(Guest(machine, other))]))
    if exits is not None:
        sections.append((f"The last {_TOLD} exits", parts.exits(list(exits)[-_TOLD:], guest)))
    sections.append(("The last it said", parts.console(console, _LINES) or ["nothing"]))
    parts_of_text: list[str] = []
    for title, lines in sections:
        underline = ["-" * len(title)] if parts_of_text else []
        parts_of_text.append("\n".join([title, *underline, *lines]))
    return "\n\n".join(parts_of_text) + "\n"
