"""Something that is done every so often on a thread of its own, while a guest runs."""

from __future__ import annotations

import os
import select

from corral.threads import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Periodic:
    """Calls `step` each `interval` seconds, from start() to end()."""

    def __init__(self, interval: float, step: Callable[[], object]) -> None:
        self._interval, self._step = interval, step
        self._failure: BaseException | None = None
        self._over = os.eventfd(0, os.EFD_CLOEXEC)
        self._working = allocate_lock()  # the thread's, until it ends

    def start(self) -> None:
        self._working.acquire()
        start_new_thread(self._main, ())

    def end(self) -> None:
        """Returns when the thread has ended. Raises what `step` failed with; it was not called again then."""
        os.eventfd_write(self._over, 1)
        self._working.acquire()
        os.close(self._over)
        if self._failure:
            raise self._failure

    def _main(self) -> None:
        try:
            poll = select.poll()
            poll.register(self._over, select.POLLIN)
            while not poll.poll(self._interval * 1000):
                self._step()
        except BaseException as error:
            self._failure = error
        finally:
            self._working.release()
