"""Pushes run beside each other, none beside a prune: it would remove chunks that a push has found and not named yet.

Each leaves a mark before it looks for the other's, so of two that begin at once one at least sees the other. What was
killed leaves its mark, which counts for a day.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.store.place import Place

_PUSHING, _PRUNING = "pushing", "pruning"
STALE = 24 * 3600.0  # seconds


@contextmanager
def pushing(place: Place) -> Iterator[None]:
    """Raises HostError while a prune is at work."""
    with _mark(place, _PUSHING):
        if (age := _age(place, _PRUNING)) is not None:
            raise HostError(
                f"the store is being pruned, since {age:.0f} s; try again when that has ended; if it was killed run "
                "corral snapshot prune once more"
            )
        yield


@contextmanager
def pruning(place: Place, force: bool) -> Iterator[None]:
    """`force`: pushes that have not ended were killed. Raises HostError while one is at work."""
    with _mark(place, _PRUNING):
        if force:
            for name in place.files(_PUSHING):
                place.remove(name)
        elif (age := _age(place, _PUSHING)) is not None:
            raise HostError(
                f"a push to the store has not ended, which began {age:.0f} s ago; try again later, or with --force if "
                "it was killed"
            )
        yield


@contextmanager
def _mark(place: Place, kind: str) -> Iterator[None]:
    name = f"{kind}/{os.urandom(8).hex()}"
    place.write(name, b"")
    try:
        yield
    finally:
        place.remove(name)


def _age(place: Place, kind: str) -> float | None:
    """Of the newest mark, in seconds; None: there is none that counts. Those that do not are removed."""
    now, found = time.time(), None
    for name, written in place.files(kind).items():
        age = max(now - written, 0.0)
        if age > STALE:
            place.remove(name)
        elif found is None or age < found:
            found = age
    return found
