"""A ring of checkpoints, one each so often while the guest runs: what vm.back() goes to (docs/rewind.md)."""

from __future__ import annotations

from collections import deque
from time import monotonic

from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.snapshot.checkpoints import Checkpoint

MOST_SECONDS, LEAST_EVERY = 3600.0, 0.01
PAGE = 4096


class Moments:
    """Of the last `seconds` in which the guest ran, one `every` so many; the oldest go earlier when the pages of all
    take more than `most` bytes. Raises ConfigError for numbers that make no ring."""

    def __init__(self, seconds: float, every: float, most: int) -> None:
        if not LEAST_EVERY <= every <= seconds <= MOST_SECONDS:
            raise ConfigError(
                f"moments of {seconds:g} s, one each {every:g} s: from {LEAST_EVERY:g} s each to {MOST_SECONDS:g} s"
            )
        self._seconds, self._every, self._most = seconds, every, most
        self._kept: deque[tuple[float, Checkpoint]] = deque()
        self._ran = 0.0  # seconds, up to the last pause
        self._since: float | None = None

    def goes_on(self) -> None:
        """The guest runs from now on."""
        if self._since is None:
            self._since = monotonic()

    def stands(self) -> None:
        if self._since is not None:
            self._ran, self._since = self._now, None

    @property
    def _now(self) -> float:
        return self._ran + (0.0 if self._since is None else monotonic() - self._since)

    @property
    def left(self) -> float:
        """Seconds until the next is due."""
        return max(0.0, self._kept[-1][0] + self._every - self._now) if self._kept else 0.0

    def keep(self, moment: Checkpoint) -> None:
        """Of now."""
        now, kept = self._now, self._kept
        kept.append((now, moment))
        size = sum(one.pages for _, one in kept) * PAGE
        while len(kept) > 1 and (kept[0][0] < now - self._seconds or size > self._most):
            size -= kept.popleft()[1].pages * PAGE

    def before(self, seconds: float) -> tuple[float, Checkpoint]:
        """The youngest that is so old at least, and how old it is; what is younger is forgotten: it will not come so
        again. Raises ConfigError."""
        now = self._now
        if not self._kept or seconds < 0 or self._kept[0][0] > now - seconds:
            oldest = now - self._kept[0][0] if self._kept else 0.0
            raise ConfigError(
                f"the guest can go back by {oldest:.2f} s at most; ask for less, or have it remember more"
            )
        while self._kept[-1][0] > now - seconds:
            self._kept.pop()
        at, moment = self._kept[-1]
        self._ran = at
        return now - at, moment
