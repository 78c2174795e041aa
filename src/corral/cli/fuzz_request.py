"""What `corral fuzz` is asked for, in values."""

from __future__ import annotations

from corral.startup.record import record


@record(frozen=True)
class FuzzRequest:
    """A session as it was asked for. `time` and `timeout` in seconds; None: no limit."""

    target: str
    corpus: str
    crashes: str
    time: float | None
    executions: int | None
    timeout: float
    fresh: int
    seed: int
    memory: int | None
