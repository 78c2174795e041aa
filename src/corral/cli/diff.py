"""corral diff: what differs between two snapshots."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.difference import Difference

COMMAND = Command(
    name="diff",
    summary="""\
Tells what differs in memory between two snapshots of a guest: how many bytes of which of the kernel's variables, slab
caches, stacks, and of programs' and files' pages; with the kernel's types (corral kernel debuginfo) which fields of
objects too.""",
    operands=("A", "B"),
    options=(
        Option("most", "N", "lines to tell (default: 30)"),
        Option("json", "", "all of it, for programs"),
    ),
    epilog="""\
example:
  corral diff before.snapshot after.snapshot""",
)
MOST = 30
_FIELDS = 6


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 2:
        raise ConfigError("corral diff wants two snapshots; see its --help")
    text = arguments.values.get("most", str(MOST))
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"--most {text!r}: a number of lines, like 100")
    most = int(text)
    from corral.introspect import difference
    from corral.introspect.subject import Saved

    with Saved(arguments.operands[0]) as before, Saved(arguments.operands[1]) as after:
        found = difference.between(before, after)
    if "json" in arguments.values:
        import json

        changes = [
            {"kind": one.kind, "name": one.name, "bytes": one.bytes, "objects": one.objects, "fields": dict(one.fields)}
            for one in found.changes
        ]
        print(json.dumps({"pages": found.pages, "bytes": found.bytes, "note": found.note, "changes": changes}))
    else:
        _tell(found, most)
    return 0


def _tell(found: Difference, most: int) -> None:
    print(f"{found.pages} pages differ, in {found.bytes} bytes")
    if found.note:
        print(found.note)
    if found.changes:
        print(f"{'BYTES':>9}  {'THINGS':>7}  {'KIND':15} NAME")
    for one in found.changes[:most]:
        fields = ", ".join(f"{name} {count}" for name, count in one.fields[:_FIELDS] if name)
        name = one.name + (f": {fields}" if fields else "")
        print(f"{one.bytes:9}  {one.objects:7}  {one.kind:15} {printable(name)}".rstrip())
    if len(found.changes) > most:
        print(f"and {len(found.changes) - most} more; --most {len(found.changes)} tells all")
