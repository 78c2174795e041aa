"""A fleet that no machine here has room for, simulated: which part saturates first.

A discrete simulation of servers with queues. One driver gives guests to host actors, one control store of Ray registers
actors and sends their handles, one registry gives snapshots, each node has CPUs. What a step takes is a parameter, and
is measured (docs/fleet.md has the figures and the command); what is simulated is how steps wait for each other.

Guests are simulated in groups of one actor's, so that a million take seconds: within a group they are alike.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Costs:
    """Seconds of one step, unless told otherwise. `guest_cpu`: of one CPU for a guest; `driver`: of the driver's CPU
    for a guest; `control`: of the control store for an actor; `actor`: of its node's CPU until it is ready; `snapshot`:
    bytes that a node fetches once; `registry`: bytes a second that the source of snapshots gives."""

    guest_cpu: float = 0.0174
    driver: float = 0.00092
    control: float = 0.004
    actor: float = 1.0
    snapshot: float = 28e6
    registry: float = 1.25e9


@dataclass(frozen=True)
class Shape:
    """`drivers` split the guests evenly, each with a control store of its own; `sources` give snapshots."""

    nodes: int
    guests: int
    cpus: int = 32
    slots: int = 8
    drivers: int = 1
    sources: int = 1


@dataclass(frozen=True)
class Outcome:
    """`seconds` for all guests; `busy`: of each part the share of that time in which it worked."""

    shape: Shape
    seconds: float
    busy: dict[str, float]

    @property
    def rate(self) -> float:
        """Guests a second."""
        return self.shape.guests / self.seconds

    @property
    def first(self) -> str:
        """The part that was busy most."""
        return max(self.busy, key=lambda part: self.busy[part])


class _Server:
    """One that serves in order of arrival."""

    def __init__(self) -> None:
        self.free, self.worked = 0.0, 0.0

    def serve(self, at: float, seconds: float) -> float:
        """When what comes at that time is done."""
        self.free = max(self.free, at) + seconds
        self.worked += seconds
        return self.free


def simulate(shape: Shape, costs: Costs) -> Outcome:
    """One driver's part of the fleet; the others are alike."""
    nodes = max(1, shape.nodes // shape.drivers)
    guests = -(-shape.guests // shape.drivers)
    driver, control, source = _Server(), _Server(), _Server()
    actors_per_node = max(1, shape.cpus * 8 // shape.slots)
    actors = min(nodes * actors_per_node, -(-guests // shape.slots))
    cpus = [[0.0] * shape.cpus for _ in range(min(nodes, actors))]
    worked, done, left = 0.0, 0.0, guests
    ready: list[tuple[float, int]] = []
    here: dict[int, float] = {}
    for number in range(actors):
        node = number % len(cpus)
        registered = control.serve(0.0, costs.control)
        if node not in here:  # a node's first actor fetches the snapshot
            rate = costs.registry * shape.sources / shape.drivers
            here[node] = source.serve(registered, costs.snapshot / rate)
        begun = heapq.heappop(cpus[node])
        end = max(begun, registered) + costs.actor
        heapq.heappush(cpus[node], end)
        worked += costs.actor
        heapq.heappush(ready, (max(end, here[node]), node))
    while left:
        at, node = heapq.heappop(ready)
        group = min(shape.slots, left)
        left -= group
        sent = driver.serve(at, costs.driver * group)
        begun = max(sent, heapq.heappop(cpus[node]))
        end = begun + costs.guest_cpu * group
        worked += costs.guest_cpu * group
        heapq.heappush(cpus[node], end)
        heapq.heappush(ready, (end, node))
        done = max(done, end)
    busy = {
        "driver": driver.worked / done,
        "control store": min(1.0, control.worked / done),
        "snapshots": min(1.0, source.worked / done),
        "nodes' CPUs": worked / (done * len(cpus) * shape.cpus),
    }
    return Outcome(shape, done, busy)


def sweep(costs: Costs, guests: int = 1_000_000) -> Iterator[tuple[str, list[Outcome]]]:
    """Fleets of 1 to 10,000 nodes: of one driver, and of as many as one for 100 nodes."""
    sizes = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
    shapes = [Shape(nodes, guests) for nodes in sizes]
    yield "one driver", [simulate(shape, costs) for shape in shapes]
    many = [replace(shape, drivers=max(1, shape.nodes // 100)) for shape in shapes]
    yield "a driver for 100 nodes, one source of snapshots", [simulate(shape, costs) for shape in many]
    apart = [replace(shape, sources=shape.drivers) for shape in many]
    yield "a driver and a source for 100 nodes", [simulate(shape, costs) for shape in apart]
