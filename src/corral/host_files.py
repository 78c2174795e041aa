"""Small files of /proc and /sys: kernels, sandboxes and the moment decide which are there."""

from __future__ import annotations

import os


def text(path: str, errors: str = "replace") -> str:
    """What the file says, without its last line's end; "" when it is not there, or not this user's to read."""
    try:
        with open(path, encoding="utf-8", errors=errors) as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def names(folder: str) -> list[str]:
    """What is in the folder, in order; [] when it is not there."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
