"""What `corral fleet run` and `boot-matrix` tell of each guest, and at the end."""

from __future__ import annotations

import json
import sys
import time

from corral.cli.terminal import Progress
from corral.errors import GuestError
from corral.fleet.account import ENDED, LOST, STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from corral.fleet.account import Account, GuestEnd
    from corral.fleet.job import FleetJob, Matrix

STOPPED_STATUS = 143  # as of a process that SIGTERM ended
_BETWEEN = 0.2  # seconds between two lines of progress


class FleetResults:
    """A context manager: progress is on standard error within."""

    def __init__(self, job: FleetJob, matrix: Matrix | None, as_json: bool) -> None:
        self._job, self._matrix, self._json = job, matrix, as_json
        self._progress = Progress()
        self._began = time.monotonic()
        self._told = 0.0
        self._statuses: dict[int, int] = {}
        self._done = 0

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.__exit__(*exception)

    def tell(self, end: GuestEnd, account: Account) -> None:
        """Of a guest that has ended. Its output goes to our own, standard error too."""
        self._done += 1
        status = _status(end)
        if status:
            self._statuses[end.number] = status
        if self._json:
            case = {} if self._matrix is None else dict(zip(_CASE, self._matrix.cases[end.number - 1], strict=True))
            print(json.dumps(case | end.values()), flush=True)
        elif self._matrix is None or status:
            self._show(end)
        now = time.monotonic()
        if now - self._told > _BETWEEN:
            self._told = now
            again = f", {account.again} started again" if account.again else ""
            percent = self._done * 100 // account.count
            self._progress(f"{self._done} of {account.count} guests{again}, {percent} %")

    def _show(self, end: GuestEnd) -> None:
        prefix = f"{end.number}: " if self._job.count > 1 else ""
        for text, file in ((end.out, sys.stdout), (end.err, sys.stderr)):
            for line in text.splitlines():
                print(f"{prefix}{line}", file=file)
        if end.how != ENDED:
            print(f"corral: guest {end.number} {_WORDS[end.how]}", file=sys.stderr)
        sys.stdout.flush()

    def conclude(self, account: Account) -> int:
        """The exit status, and lines of what failed."""
        if self._matrix is not None and not self._json:
            self._table()
        totals = account.totals()
        took = time.monotonic() - self._began
        good = account.count - len(self._statuses)
        parts = [f"{good} of {account.count} guests ended with status 0"]
        parts += [f"{totals[how]} {word}" for how, word in ((LOST, "lost"), (STOPPED, "stopped")) if totals[how]]
        parts += [f"{account.again} started again"] if account.again else []
        if account.count > 1 or good < account.count:
            print(f"corral: {', '.join(parts)}; {took:.1f} s", file=sys.stderr)
        return self._statuses[min(self._statuses)] if self._statuses else 0

    def _table(self) -> None:
        assert self._matrix is not None
        print(f"{'CASE':>4}  {'KERNEL':28} {'IMAGE':24} {'CPUS':>4}  RESULT")
        for number, (kernel, image, cpus) in enumerate(self._matrix.cases, 1):
            status = self._statuses.get(number, 0)
            result = f"status {status}" if status else "good"
            print(f"{number:4}  {kernel or '(chosen)':28} {image or '(small)':24} {cpus:4}  {result}")


_CASE = ("kernel", "image", "cpus")
_WORDS = {LOST: "was lost with its host", STOPPED: "was stopped"}


def _status(end: GuestEnd) -> int:
    """As corral's own exit status."""
    if end.how == STOPPED:
        return STOPPED_STATUS
    return GuestError.exit_status if end.status is None else end.status
