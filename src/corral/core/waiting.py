"""How console, scripts, debugger and gdb wait: for descriptors, for events that other threads signal, and until a
moment.

This is poll(2) itself, and not Python's `selectors`: that cannot wait for a reader to leave while there is nothing to
write to it, and its import takes 1.3 ms of a start that takes 20. A signal's handler interrupts the wait, and what it
raises comes out of here.
"""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL  # comes unasked


def wait_for(wanted: Mapping[int, int], until: float | None = None) -> dict[int, int]:
    """Those of these descriptors for which something that is wanted of them has come, or GONE. Waits for the first;
    there is none when time.monotonic() is `until`."""
    poll = select.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    return dict(poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000))


def wait(seconds: float | None, *watches: Callable[[], int]) -> bool:
    """Whether one of several things became readable within so many seconds. `watches` are their methods that give a
    descriptor to close after use, like Event.watch, so that they may be closed meanwhile. Raises ClosedError."""
    copies: list[int] = []
    try:
        for watch in watches:
            copies.append(watch())
        until = None if seconds is None else time.monotonic() + seconds
        return bool(wait_for(dict.fromkeys(copies, READABLE), until))
    finally:
        for copy in copies:
            os.close(copy)
