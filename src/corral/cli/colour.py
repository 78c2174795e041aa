"""Colours, where somebody sees them: on a terminal that has some, unless NO_COLOR is set (https://no-color.org)."""

from __future__ import annotations

import os

BOLD, RED = "1", "1;31"


def wanted(descriptor: int) -> bool:
    """Whether what is written there may be coloured."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(descriptor)


def painted(text: str, colour: str, descriptor: int) -> str:
    """The text in this colour if it goes to a terminal, else as it is."""
    return f"\x1b[{colour}m{text}\x1b[0m" if wanted(descriptor) else text
