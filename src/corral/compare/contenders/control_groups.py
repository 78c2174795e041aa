"""Control groups that an interrupted container leaves, since no process knows any more that it had them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PATIENCE = 2.0  # seconds, in which the last process of a group may end


def remove(pattern: str, is_left: Callable[[str], bool] = lambda name: True) -> None:
    """Those whose names are of the pattern and `is_left`; in all hierarchies. One that is in use stays."""
    deadline = time.monotonic() + PATIENCE
    for group in [group for group in ROOT.rglob(pattern) if is_left(group.name)]:
        while group.exists():
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
