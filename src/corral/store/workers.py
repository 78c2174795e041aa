"""The same for each of many things, some at a time, by threads that hold up no end of the process."""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Generic, TypeVar

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 90.0  # seconds for one of them
GRACE = 0.5  # seconds, after an error, for those that have begun: they take away what they have not finished


class _Job(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.done = threading.Event()
        self.result: list[R] = []
        self.error: BaseException | None = None


def each(function: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    """Results in the order of `items`, which are asked for as threads become free; `count` threads. The first error is
    raised, and what has not begun is not begun. Then threads are waited for only as long as a whole store needs to end
    what it has begun: it may not answer. Raises HostError when one takes longer than PATIENCE."""
    jobs: SimpleQueue[_Job[T, R] | None] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (job := jobs.get()) is not None and not stopped.is_set():
            try:
                job.result.append(function(job.item))
            except BaseException as error:  # raised where its result is asked for
                job.error = error
            job.done.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    waiting: deque[_Job[T, R]] = deque()
    for thread in threads:
        thread.start()
    try:
        for item in items:
            waiting.append(_Job(item))
            jobs.put(waiting[-1])
            if len(waiting) > 2 * count:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BaseException:
        stopped.set()
        _end(threads, jobs, time.monotonic() + GRACE)
        raise
    _end(threads, jobs, None)


def _end(threads: list[threading.Thread], jobs: SimpleQueue[_Job[T, R] | None], until: float | None) -> None:
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join(None if until is None else max(0.0, until - time.monotonic()))


def _result(job: _Job[T, R]) -> R:
    if not job.done.wait(PATIENCE):
        raise HostError(f"the store has not answered for {PATIENCE:g} s; see whether it works, and try again")
    if job.error is not None:
        raise job.error
    return job.result[0]
