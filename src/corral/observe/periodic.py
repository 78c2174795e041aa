"""Something that is done every so often on a thread of its own, while a guest runs."""

from __future__ import annotations

import time

from corral.core.waiting import READABLE, wait_for
from corral.native import Event
from corral.startup.threads import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Periodic:
    """Calls `step` each `interval` seconds, from start() to end()."""

    def __init__(self, interval: float, step: Callable[[], object]) -> None:
        self._interval, self._step = interval, step
        self._failure: BaseException | None = None
        self._over = Event()
        self._working = allocate_lock()  # the thread's, until it ends

    def start(self) -> None:
        self._working.acquire()
        start_new_thread(self._main, ())

    def end(self) -> None:
        """Returns when the thread has ended. Raises what `step` failed with; it was not called again then. Does nothing
        the second time."""
        if self._over.closed:
            return
        self._over.signal()
        self._working.acquire()
        self._over.close()
        if self._failure:
            raise self._failure

    def _main(self) -> None:
        try:
            over = {self._over.value: READABLE}
            while not wait_for(over, time.monotonic() + self._interval):
                self._step()
        except BaseException as error:
            self._failure = error
        finally:
            self._working.release()
