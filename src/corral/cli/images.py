"""corral images: the distributions and the container images in the cache."""

from __future__ import annotations

from corral import spelling
from corral.cli.cache import cleaned
from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.guests import distribution_store

COMMAND = Command(
    name="images",
    summary="""\
  corral images list           each distribution that was made, its kernel, its size here, whether it is in use; and
                               each container image, its digest, its size, when it was used last
  corral images rm NAME        removes one; what needs it next makes it again. corral rmi removes several
  corral images prune          removes what an older Corral made, and what interrupted work has left

Without an action it lists. What a running guest uses is never removed.""",
    operands=("ACTION", "NAME"),
    words=("list", "rm", "prune"),
    options=(
        Option("all", "", "with prune: all that is not in use, kernels and packages too: corral cache --clean"),
        Option("json", "", "with list: for programs; sizes in bytes, times in seconds since 1970"),
    ),
    epilog="exit status: 0 done; 2 bad usage, no such image, or it is in use",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    action, *names = arguments.operands or ["list"]
    if action == "rm" and names:
        print(f"removed {names[0]}, {_size(_removed(names[0]))}")
    elif action == "list" and not names:
        print(_json()) if "json" in arguments.values else _list()
    elif action == "prune" and not names:
        print(cleaned() if "all" in arguments.values else f"removed {_size(_pruned())}")
    else:
        if action not in COMMAND.words:
            known = spelling.unknown("action of corral images", action, COMMAND.words)
            raise ConfigError(f"{known}; see corral images --help")
        raise ConfigError(f"corral images {' '.join([action, *names])}: see corral images --help")
    return 0


def _list() -> None:
    import time

    from corral.oci import store

    for image in distribution_store.listed():
        state = "in use" if image.in_use else "ready" if image.current else "old: corral images prune"
        print(f"{image.name:24} {image.release:28} {_size(image.size):>10}  {state}")
    for stored in store.listed():
        state = "in use" if stored.in_use else f"used {_ago(time.time() - stored.used)} ago"
        for name in stored.names or ("without a name",):
            print(f"{name:40} {stored.digest[:19]} {_size(stored.size):>10}  {state}")


def _json() -> str:
    import json

    from corral.oci import store

    systems = [
        {"name": one.name, "release": one.release, "size": one.size, "in_use": one.in_use, "current": one.current}
        for one in distribution_store.listed()
    ]
    images = [
        {"names": one.names, "digest": one.digest, "size": one.size, "in_use": one.in_use, "used": one.used}
        for one in store.listed()
    ]
    return json.dumps({"distributions": systems, "images": images}, indent=2)


def _removed(name: str) -> int:
    from corral.oci import store

    if any(image.name == name for image in distribution_store.listed()):
        return distribution_store.remove(name)
    return store.remove(*store.find(name))


def _pruned() -> int:
    from corral.oci import store

    return distribution_store.prune() + store.prune()


def _ago(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' * (count > 1)}"
    return "a moment"


def _size(size: int) -> str:
    from corral.images.content import size_text

    return size_text(size)
