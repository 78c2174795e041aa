"""guests/work, compiled: what a host and its guests are to do alike."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from corral.guests import cache, sources

SOURCE = Path(__file__).resolve().parents[1] / "guests" / "work" / "work.c"
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread"]


def program() -> str:
    """Its path, in the cache."""
    target = cache.folder("bench", f"work_{sources.digest(SOURCE.read_bytes())}")
    with cache.making(target) as unfinished:
        if unfinished:
            subprocess.run(["gcc", *FLAGS, str(SOURCE), "-o", os.path.join(unfinished, "work")], check=True)
    return os.path.join(target, "work")


def rate(said: str) -> float | None:
    """Of a line that it printed, what it did in a second; None for another line."""
    words = said.split()
    return float(words[1]) if len(words) == 2 and words[0] in ("stream", "chase", "linpack") else None
