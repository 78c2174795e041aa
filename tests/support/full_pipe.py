"""A pipe whose reader stands still."""

from __future__ import annotations

import os


def full_pipe() -> tuple[int, int]:
    """Both ends: a write to it waits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, bytes(4096))
        except BlockingIOError:
            os.set_blocking(writer, True)
            return reader, writer
