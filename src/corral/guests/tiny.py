"""Guests of a few instructions, for examples and tests: guests/asm, assembled when they are asked for."""

from __future__ import annotations

import os

from corral.errors import ConfigError, HostError
from corral.guests import cache, sources

_LINK = ("-m32", "-nostdlib", "-static", "-Wl,--build-id=none,-z,noexecstack")
_SHARED = ("pvh.inc", "pvh.ld", "long.inc", os.path.join("..", "fuzz", "corral_fuzz.h"))


def names() -> list[str]:
    """Those that there are. What each does is its first line."""
    found = os.listdir(sources.folder("asm"))
    return sorted(name.removesuffix(".S") for name in found if name.endswith(".S"))


def tiny_guest(name: str, **defines: int) -> str:
    """The path of guests/asm/NAME.S as a PVH executable, with -DKEY=VALUE for each define; kept in the cache.

    Raises ConfigError for a name that there is not, HostError without a compiler.
    """
    if name not in names():
        raise ConfigError(f"there is no tiny guest {name!r}; there are {', '.join(names())}")
    folder = sources.folder("asm")
    flags = [f"-D{key}={value}" for key, value in sorted(defines.items())]
    content = [_content(os.path.join(folder, part)) for part in (f"{name}.S", *_SHARED)]
    target = cache.folder("tiny", f"{name}-{sources.digest(*content, ' '.join((*_LINK, *flags)).encode())}")
    with cache.making(target) as unfinished:
        if unfinished:
            _assemble(folder, name, flags, os.path.join(unfinished, name))
    return os.path.join(target, name)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _assemble(folder: str, name: str, flags: list[str], output: str) -> None:
    import subprocess

    command = ["gcc", *_LINK, f"-Wl,-T{folder}/pvh.ld", f"-I{folder}", *flags, f"{folder}/{name}.S", "-o", output]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HostError("no gcc to assemble a tiny guest; install it: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise HostError(
            f"gcc cannot assemble the tiny guest {name}: {error.stderr.strip().splitlines()[-1]}"
        ) from error
