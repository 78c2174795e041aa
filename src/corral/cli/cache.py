"""corral cache: what Corral keeps on the host's disk."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.guests import cache, cache_content

COMMAND = Command(
    name="cache",
    summary="""\
Lists what Corral keeps on this host's disk, and how large it is. All of it can be made again: kernels are built or
fetched, images made, when they are needed next.""",
    options=(
        Option("clean", "", "remove all of it that is not in use and not being made"),
        Option("all", "", "list each one, not only how many there are"),
        Option("json", "", "each one, for programs: kind, name, path, bytes of the disk, whether it is in use"),
    ),
    epilog="""\
examples:
  corral cache                 what there is
  corral cache --clean         room on the disk; the next boot builds or fetches a kernel again
  corral images rm debian-sid  one distribution alone""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if "clean" in arguments.values:
        print(cleaned())
    elif "json" in arguments.values:
        print(_json())
    else:
        print(_text("all" in arguments.values))
    return 0


def cleaned() -> str:
    """Removes what is not in use; a sentence tells how much that was, and what is still there."""
    from corral.images.content import size_text

    freed, kept = cache_content.clean()
    staying = f"; {', '.join(kept)} in use" if kept else ""
    return f"removed {size_text(freed)}{staying}"


def _json() -> str:
    import json

    found = [entry for kind in cache_content.KINDS for entry in cache_content.entries(kind)]
    rows = [{"kind": e.kind, "name": e.name, "path": e.path, "size": e.size, "in_use": e.in_use} for e in found]
    return json.dumps(rows, indent=2)


def _text(each: bool) -> str:
    from corral.images.content import size_text

    lines, total = [], 0
    for kind, about in cache_content.KINDS.items():
        entries = cache_content.entries(kind)
        if not entries:
            continue
        size = sum(entry.size for entry in entries)
        total += size
        count = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
        lines.append(f"{kind:14}{size_text(size):>10}  {count:11}  {about}")
        if each:
            lines += [
                f"{'':14}{size_text(entry.size):>10}    {entry.name}{', in use' if entry.in_use else ''}"
                for entry in entries
            ]
    if other := cache_content.of_work():
        lines.append(
            f"{'work on it':14}{size_text(other):>10}  {'':11}  a checkout's environments and tests: make clean"
        )
    lines.append(f"{'all of it':14}{size_text(total + other):>10}  {'':11}  in {cache.folder()}")
    return "\n".join(lines)
