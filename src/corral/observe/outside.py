"""A vCPU out of its guest for a moment, whatever state it was in."""

from __future__ import annotations

from corral.core.vcpu_thread import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.vcpu_thread import VcpuThread


class Outside:
    """A context manager: what C reads at each exit may be changed within."""

    def __init__(self, thread: VcpuThread) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._resume = self._thread.state in (State.CREATED, State.RUNNING)
        self._thread.pause()

    def __exit__(self, *exception: object) -> None:
        if self._resume:
            self._thread.resume()
