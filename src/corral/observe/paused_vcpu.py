"""A vCPU that is paused within a block, so that what C reads at each exit can be changed."""

from __future__ import annotations

from corral.core.vcpu_thread import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.vcpu_thread import VcpuThread


class PausedVcpu:
    """A context manager. A vCPU that ran goes on after the block."""

    def __init__(self, thread: VcpuThread) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._resume = self._thread.state in (State.CREATED, State.RUNNING)
        self._thread.pause()

    def __exit__(self, *exception: object) -> None:
        if self._resume:
            self._thread.resume()
