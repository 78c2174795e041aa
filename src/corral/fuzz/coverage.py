"""Which edges a session has seen, and how often in one execution: in steps of 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to
127, and more, as AFL counts them, so that a loop's every turn is not news."""

from __future__ import annotations

_MOST = 1 << 14  # maps that are remembered as a whole


def _step(count: int) -> int:
    limits = (1, 2, 3, 4, 8, 16, 32, 128)
    return sum(1 << bit for bit, least in enumerate(limits) if count >= least and count < (*limits, 256)[bit + 1])


_STEPS = bytes(_step(count) for count in range(256))


class Coverage:
    """A bit for each edge and step. Work is some operations on whole maps, and none on a map that came before."""

    def __init__(self) -> None:
        self._seen = 0
        self._known: set[bytes] = set()
        self.edges = 0

    def add(self, counts: bytes) -> bool:
        """Whether an execution with these counts went a new way."""
        if counts in self._known:
            return False
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known.add(counts)
        taken = int.from_bytes(counts.translate(_STEPS), "little")
        if not taken & ~self._seen:
            return False
        self._seen |= taken
        self.edges = sum(map(bool, self._seen.to_bytes(len(counts), "little")))
        return True
