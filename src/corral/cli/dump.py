"""corral dump: a guest as an ELF core file."""

from __future__ import annotations

from corral.cli import looked_into
from corral.cli.options import Command, parse
from corral.cli.terminal import leave_on_signals
from corral.errors import ConfigError

COMMAND = Command(
    name="dump",
    summary="""\
Saves a guest that runs, or one that is in a snapshot, to an ELF core file: its memory, its vCPUs' registers, and what
tools know its Linux by (VMCOREINFO). The guest stands still meanwhile, and goes on. Pages of zeros are holes of FILE.
crash and drgn open it, with the kernel's debug information: corral kernel debuginfo tells where that is.""",
    operands=("NAME|SNAPSHOT", "FILE"),
    epilog="""\
examples:
  corral dump web web.core
  corral dump ready.snapshot ready.core
  drgn -c web.core -s "$(corral kernel debuginfo)"
  crash "$(corral kernel debuginfo)" web.core""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 2:
        raise ConfigError("corral dump wants a guest, or a snapshot, and the file to write; see its --help")
    leave_on_signals()
    source, path = arguments.operands
    written = _save(source, path)
    print(f"{path}: {written / (1 << 20):.1f} MiB of memory")
    return 0


def _save(source: str, path: str) -> int:
    from corral.introspect import core_dump

    if looked_into.is_snapshot(source):
        from corral.introspect.subject import Saved

        with Saved(source) as saved:
            return core_dump.write(path, saved.subject)
    from corral.running import place, seen

    guest = place.running(source)
    with core_dump.publishing(path) as fd:
        return seen.write_core(guest, fd)
