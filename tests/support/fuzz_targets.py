"""guests/fuzz built on demand, kept in the user's cache folder by content."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.tiny_guests import ASM, cache

FUZZ = ASM.parent / "fuzz"
_STRICT = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer")
COVERED = {"gcc": "-fsanitize-coverage=trace-pc", "clang": "-fsanitize-coverage=trace-pc-guard"}


def program(name: str = "parser", compiler: str = "gcc", options: Sequence[str] = ("-static",)) -> Path:
    """A file with parse(), compiled for coverage, and fuzzed.c without."""
    covered = [compiler, *_STRICT, COVERED[compiler], "-c", f"{FUZZ}/{name}.c"]
    return _made(
        f"{name}-{compiler}",
        [covered, [compiler, *_STRICT, "-c", f"{FUZZ}/fuzzed.c"], [compiler, *options, f"{name}.o", "fuzzed.o"]],
    )


def _made(name: str, commands: Sequence[list[str]]) -> Path:
    """What the last command links; each runs in a folder of its own."""
    content = b"".join(part.read_bytes() for part in sorted(FUZZ.iterdir())) + repr(commands).encode()
    target = cache() / f"fuzz-{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not target.exists():
        folder = cache() / f"{target.name}.{os.getpid()}"
        folder.mkdir(parents=True)
        for command in commands[:-1]:
            subprocess.run(command, check=True, cwd=folder)
        subprocess.run([*commands[-1], "-o", "linked"], check=True, cwd=folder)
        (folder / "linked").replace(target)
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
    return target
