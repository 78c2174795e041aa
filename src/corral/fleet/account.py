"""The account of a job's guests: which wait, which run where, how each ended. It knows no engine."""

from __future__ import annotations

from collections import deque

from corral.errors import HostError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENDED, LOST, STOPPED = "ended", "lost", "stopped"


@record(frozen=True)
class GuestEnd:
    """How one guest of a job ended. `number` counts from 1. `how`: "ended", and `status` is the exit status of its
    command; "lost": the host where it ran went away, or could not run it; "stopped": it was not let run to its end.
    `attempts`: how often it was started. `seconds`: from the start of its process to its end."""

    number: int
    how: str
    attempts: int
    host: str = ""
    status: int | None = None
    out: str = ""
    err: str = ""
    cut: bool = False
    seconds: float = 0.0

    def values(self) -> dict[str, Any]:
        """For a line of JSON."""
        names = ("number", "how", "status", "attempts", "host", "seconds", "out", "err", "cut")
        return {("guest" if name == "number" else name): getattr(self, name) for name in names}


class Account:
    """Of guests 1 to `count`. One that is lost is started again up to `retries` times, never one that has ended: a
    command that failed has run, and its status is the answer."""

    def __init__(self, count: int, retries: int = 0) -> None:
        self._waiting = deque(range(1, count + 1))
        self._running: dict[int, str] = {}
        self._attempts = dict.fromkeys(range(1, count + 1), 0)
        self._settled: dict[int, str] = {}
        self.count, self.retries, self.again = count, retries, 0

    def take(self, host: str) -> int | None:
        """The next guest to be started, which runs on `host` from here on; None: there is none."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        self._attempts[number] += 1
        self._running[number] = host
        return number

    def ended(self, number: int, host: str, answer: dict[str, Any]) -> GuestEnd | None:
        """It ended as a zygote tells (zygote.py). None where it is started again, since its host could not run it."""
        self._leave(number, host)
        if answer["status"] == HostError.exit_status and self._again(number):
            return None
        how = STOPPED if answer.get("stopped") else ENDED
        return self._settle(number, how, host, **{name: answer[name] for name in answer if name in _TOLD})

    def lose(self, host: str, why: str) -> list[GuestEnd]:
        """The host has gone, with what ran there: those that are not started again."""
        gone = [number for number, where in self._running.items() if where == host]
        ends = []
        for number in gone:
            self._leave(number, host)
            if not self._again(number):
                ends.append(self._settle(number, LOST, host, err=why))
        return ends

    def stop(self) -> list[GuestEnd]:
        """None is started any more; those that have not ended."""
        rest = [(number, "") for number in self._waiting] + list(self._running.items())
        self._waiting.clear()
        self._running.clear()
        return [self._settle(number, STOPPED, host) for number, host in sorted(rest)]

    def _leave(self, number: int, host: str) -> None:
        if self._running.pop(number, None) != host:
            raise AssertionError(f"guest {number} does not run on {host}")

    def _again(self, number: int) -> bool:
        if self._attempts[number] > self.retries:
            return False
        self._waiting.append(number)
        self.again += 1
        return True

    def _settle(self, number: int, how: str, host: str, **told: Any) -> GuestEnd:
        if number in self._settled:
            raise AssertionError(f"guest {number} ends twice")
        self._settled[number] = how
        return GuestEnd(number, how, self._attempts[number], host, **told)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def over(self) -> bool:
        """Each guest has ended, is lost, or was stopped."""
        return len(self._settled) == self.count

    def totals(self) -> dict[str, int]:
        """How many ended, were lost, were stopped."""
        ends = list(self._settled.values())
        return {how: ends.count(how) for how in (ENDED, LOST, STOPPED)}


_TOLD = frozenset(("status", "out", "err", "cut", "seconds"))
