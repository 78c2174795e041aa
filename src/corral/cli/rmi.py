"""corral rmi: removes container images from the cache."""

from __future__ import annotations

from corral.cli.options import Command, parse
from corral.errors import ConfigError

COMMAND = Command(
    name="rmi",
    summary="""\
Removes container images from the cache, by name or by the begin of their digest (4 digits or more). Of an image with
several names only that name goes; by its digest it goes with all. What a running guest uses stays.""",
    operands=("NAME", "..."),
    epilog="""\
examples:
  corral rmi python:3.12
  corral rmi 4e038913

exit status: 0 done; 2 bad usage, no such image, or it is in use""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        raise ConfigError("corral rmi wants an image; see corral images list, and corral rmi --help")
    from corral.images.content import size_text
    from corral.oci import store

    for word in arguments.operands:
        image, name = store.find(word)
        freed = store.remove(image, name)
        print(f"removed {name or image.digest}, {size_text(freed)}")
    return 0
