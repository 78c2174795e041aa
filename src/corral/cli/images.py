"""corral images: the distributions in the cache."""

from __future__ import annotations

from corral import spelling
from corral.cli.cache import cleaned
from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.guests import distribution_store as store

COMMAND = Command(
    name="images",
    summary="""\
  corral images list           each distribution that was made, its kernel, its size here, whether it is in use
  corral images rm NAME        removes one; the next `corral boot` of it makes it again
  corral images prune          removes what an older Corral made, and what interrupted work has left

What a running guest uses is never removed.""",
    operands=("ACTION", "NAME"),
    words=("list", "rm", "prune"),
    options=(Option("all", "", "with prune: all that is not in use, kernels and packages too: corral cache --clean"),),
    epilog="exit status: 0 done; 2 bad usage, no such image, or it is in use",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None or not arguments.operands:
        print(COMMAND.help())
        return 0 if arguments is None else 2
    action, *names = arguments.operands
    if action == "rm" and names:
        print(f"removed {names[0]}, {_size(store.remove(names[0]))}")
    elif action == "list" and not names:
        for image in store.listed():
            state = "in use" if image.in_use else "ready" if image.current else "old: corral images prune"
            print(f"{image.name:24} {image.release:28} {_size(image.size):>10}  {state}")
    elif action == "prune" and not names:
        print(cleaned() if "all" in arguments.values else f"removed {_size(store.prune())}")
    else:
        if action not in COMMAND.words:
            known = spelling.unknown("action of corral images", action, COMMAND.words)
            raise ConfigError(f"{known}; see corral images --help")
        raise ConfigError(f"corral images {' '.join([action, *names])}: see corral images --help")
    return 0


def _size(size: int) -> str:
    from corral.images.content import size_text

    return size_text(size)
