"""Threads that run guests, from Python's own low-level `_thread`: `threading` and what it imports take 3 ms of a start
that takes 20."""

from __future__ import annotations

from _thread import RLock, allocate_lock, get_native_id, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

__all__ = ["Condition", "RLock", "allocate_lock", "get_native_id", "start_new_thread"]


class Condition:
    """A lock, and waiting for somebody to change what it protects; as threading.Condition, without timeouts."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._waiting: list[LockType] = []  # each is held until its waiter shall go on

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def wait(self) -> None:
        """Gives the lock up until notify_all(); the caller holds it before and after."""
        turn = allocate_lock()
        turn.acquire()
        self._waiting.append(turn)
        self._lock.release()
        try:
            turn.acquire()
        finally:
            self._lock.acquire()

    def notify_all(self) -> None:
        """Lets all who wait go on; the caller holds the lock."""
        while self._waiting:
            self._waiting.pop().release()
