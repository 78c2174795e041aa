"""The actor that has guests on a node: they are children of its zygote, and end with it."""

from __future__ import annotations

import os
import socket
import time

from corral.errors import CorralError
from corral.fleet.client import ZygoteClient
from corral.ray import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class GuestHost:
    """An async actor with the resources of `slots` guests. `job`: by which `corral fleet ps` and `stop` know it."""

    def __init__(self, job: str, slots: int) -> None:
        self._job, self._slots, self._begun, self._stopped = job, slots, 0, False
        self._zygote = ZygoteClient()
        self._told: dict[str, str] = {}

    async def ready(self, wanted: tuple[files.FleetFile, ...]) -> dict[str, Any]:
        """Where it is; the job's files are here then. Raises CorralError."""
        import ray

        self._told = {one.path: await files.here(one) for one in wanted}
        return {"node": ray.get_runtime_context().get_node_id(), "host": socket.gethostname(), "pid": os.getpid()}

    async def run(self, words: list[str], seconds: float | None) -> dict[str, Any]:
        """A guest, to its end (zygote.py)."""
        if self._stopped:
            return {"status": None, "stopped": True}
        self._begun += 1
        try:
            told = [self._told.get(word, word) for word in words]
            snapshot = next(iter(self._told.values()), None)
            answer = await self._zygote.run(told, seconds, snapshot)
        except CorralError as error:
            answer = {"status": error.exit_status, "err": str(error)}
        return {"status": None, "stopped": True} if self._stopped else answer

    async def nothing(self) -> dict[str, Any]:
        """What a guest costs without the guest, for benchmarks."""
        return {"status": 0, "out": "", "err": "", "seconds": 0.0}

    async def look(self) -> dict[str, Any]:
        """For `corral fleet ps`, and what this process has taken of a CPU, in seconds, its guests not included."""
        host = socket.gethostname()
        return {
            "job": self._job,
            "host": host,
            "slots": self._slots,
            "running": self._zygote.running,
            "begun": self._begun,
            "cpu": time.process_time(),
        }

    async def stop(self) -> None:
        """Ends all guests, and begins none any more."""
        self._stopped = True
        self._zygote.close()
