"""corral prune: room on the disk, from what was kept of container images."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse

COMMAND = Command(
    name="prune",
    summary="""\
Removes container images that have no name any more, what interrupted work has left, and the layers that images were
made of. What a running guest uses stays. For all that Corral keeps: corral cache --clean.""",
    options=(Option("all", "", "images with a name too"),),
    epilog="""\
examples:
  corral prune
  corral prune --all

Images and layers go by themselves, those used least recently first, when they take more than CORRAL_IMAGES_LIMIT
(like 50G; 20G without it).

examples:
  corral prune
  corral prune --all""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    from corral.images.content import size_text
    from corral.oci import store

    print(f"removed {size_text(store.prune(everything='all' in arguments.values))}")
    return 0
