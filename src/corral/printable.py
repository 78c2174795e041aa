"""Text that others wrote, for people to read: a symbol, a label, a file's name. On a terminal it does nothing."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """What cannot be shown, like an escape character, is written as Python writes it; but for what is in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
