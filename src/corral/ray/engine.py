"""A job's guests by Ray: host actors take resources of nodes, and the guests of the job run as their children.

Ray places the actors, so a node that is full gets none, and one that joins gets its part. An actor is never restarted
and a call never repeated by Ray: what runs again is for the account to say (fleet/account.py).
"""

from __future__ import annotations

import os
import time

from corral.errors import HostError
from corral.fleet.account import Account
from corral.ray.cluster import nodes
from corral.ray.files import FileSource, FleetFile, digest
from corral.ray.host import GuestHost
from corral.ray.node import GUESTS
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral.fleet.account import GuestEnd
    from corral.fleet.job import FleetJob

SLOTS = 8  # guests that an actor has at once, at most
PATIENCE = 60.0  # seconds for the first actor to be there
MOST_REFUSED = 4  # actors that could not begin, one after the other, until the job is given up
_LOOK = 0.5  # seconds between looks at whether to go on
_QUEUED = 2  # guests that an actor is asked for beyond those that run: the next is there when one has ended
PREFIX = "guests-"


class _Pen:
    """A host actor, as the engine sees it."""

    def __init__(self, name: str, actor: Any, slots: int) -> None:
        self.name, self.actor, self.slots = name, actor, slots
        self.where = ""  # its host and process
        self.is_ready = False
        self.asked = 0


class Engine:
    """Runs one job in a cluster; `ray` is the module, connected. A context manager: at its end no guest is left."""

    def __init__(self, ray: Any, job: FleetJob, retries: int = 0, jobs: int | None = None) -> None:
        self._ray, self._job = ray, job
        self.account = Account(job.count, retries)
        self.name = f"{PREFIX}{os.urandom(4).hex()}"
        self._at_once = jobs
        self._pens: dict[str, _Pen] = {}
        self._calls: dict[Any, tuple[_Pen, int]] = {}  # by Ray's reference: which guest; 0: whether the actor is there
        self._source: Any = None
        self._files: tuple[FleetFile, ...] = ()
        self._begun = 0
        self._refused = ""  # why an actor could not begin
        self._refusals = 0

    def __enter__(self) -> Engine:
        if self._job.files:
            made = self._ray.remote(num_cpus=0)(FileSource)
            here = self._ray.get_runtime_context().get_node_id()
            self._source = made.options(scheduling_strategy=_at(here)).remote(self._job.files)
            self._files = tuple(
                FleetFile(path, digest(path), os.path.getsize(path), self._source) for path in self._job.files
            )
        return self

    def __exit__(self, *exception: object) -> None:
        for pen in self._pens.values():
            self._ray.kill(pen.actor)
        if self._source is not None:
            self._ray.kill(self._source)
        self._pens.clear()

    def run(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[GuestEnd]:
        """Each guest's end, as it comes. Raises HostError where no node has room for a guest."""
        self._fill()
        began = time.monotonic()
        while not self.account.over:
            if stopped():
                yield from self.account.stop()
                return
            for reference in self._ended():
                yield from self._take(reference)
            if not any(pen.is_ready for pen in self._pens.values()):
                self._fill()
                if not self._pens or self._refusals >= MOST_REFUSED or time.monotonic() - began > PATIENCE:
                    raise HostError(self._no_room())
            else:
                began = time.monotonic()
            self._ask()

    def _fill(self) -> None:
        """Asks for as many actors as the nodes may have; those for which there is no room wait in Ray."""
        room = {node.address: node.guests for node in nodes(self._ray)}
        most = min(self._at_once or sum(room.values()), self.account.waiting)
        missing = most - sum(pen.slots for pen in self._pens.values())
        slots = min([SLOTS, *room.values()], default=0)
        while slots and missing > 0:
            taken = min(slots, missing)
            self._begin(taken)
            missing -= taken

    def _begin(self, slots: int) -> None:
        self._begun += 1
        name, share = f"{self.name}-{self._begun}", self._job.share
        actor = (
            self._ray.remote(GuestHost)
            .options(
                name=name,
                num_cpus=share.cpus * slots,
                memory=share.memory * slots,
                resources={GUESTS: slots},
                scheduling_strategy="SPREAD",
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=slots + _QUEUED + 4,
            )
            .remote(self.name, slots)
        )
        pen = self._pens[name] = _Pen(name, actor, slots)
        self._calls[actor.ready.remote(self._files)] = (pen, 0)

    def _ended(self) -> list[Any]:
        """Calls that have; waits for one, a moment."""
        calls = list(self._calls)
        if not calls:
            return []
        first, _ = self._ray.wait(calls, num_returns=1, timeout=_LOOK)
        return self._ray.wait(calls, num_returns=len(calls), timeout=0)[0] if first else []

    def _take(self, reference: Any) -> list[GuestEnd]:
        if reference not in self._calls:
            return []  # of an actor that is gone
        pen, number = self._calls.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            return self._lose(pen, str(error).splitlines()[0])
        except self._ray.exceptions.RayError as error:
            return self._lose(pen, str(error).strip().splitlines()[-1])
        if not number:
            self._refusals = 0
            pen.is_ready, pen.where = True, f"{answer['host']}/{answer['pid']}"
            return []
        pen.asked -= 1
        end = self.account.ended(number, pen.name, answer)
        return [replace(end, host=pen.where)] if end else []

    def _lose(self, pen: _Pen, why: str) -> list[GuestEnd]:
        """The actor has gone, with its node or without. Others take what is left of the job, and one more is begun."""
        self._pens.pop(pen.name, None)
        self._calls = {reference: call for reference, call in self._calls.items() if call[0] is not pen}
        self._ray.kill(pen.actor)
        ends = self.account.lose(pen.name, why)
        if pen.is_ready:
            self._fill()
        else:
            self._refused, self._refusals = why, self._refusals + 1
        return [replace(end, host=pen.where) for end in ends]

    def _ask(self) -> None:
        """Gives each actor guests, as many as it has room for and a few that wait there."""
        for extra in (0, _QUEUED):
            for pen in self._pens.values():
                while pen.is_ready and pen.asked < pen.slots + extra:
                    number = self.account.take(pen.name)
                    if number is None:
                        return
                    pen.asked += 1
                    words = self._job.words_of(number)
                    self._calls[pen.actor.run.remote(words, self._job.seconds)] = (pen, number)

    def _no_room(self) -> str:
        if self._refused:
            return f"no node could run guests: {self._refused}"
        if not nodes(self._ray):
            return "no node of this Ray runs guests; begin one: corral fleet up, or --address for one that joins"
        share = self._job.share
        return (
            f"no node has room for a guest of {share.cpus:g} CPUs and {share.memory >> 20} MiB; wait for other jobs "
            "(corral fleet ps), or ask for less: --memory, --share"
        )


def _at(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
