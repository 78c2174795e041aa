"""fleet: guests through Ray, against the process that forks them alone and against a Ray task that does nothing.

A tiny guest goes on from a snapshot and says hello: each is a process and a jail of its own. Then two nodes with a
thousand of them, of which one is killed in the middle. It wants Ray: pip install 'corral[ray]'.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

# Before Ray is imported: a node that is gone is noticed within two seconds.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}

import corral
from benchmarks.measure import interleaved, report, verdict
from corral.errors import HostError
from corral.fleet.account import ENDED
from corral.fleet.client import ZygoteClient
from corral.fleet.job import of_image
from corral.ray import jobs, versions
from corral.ray.cluster import connect
from corral.ray.engine import Engine
from corral.ray.node import GUESTS, OBJECT_STORE
from tests.support.tiny_guests import tiny_guest

COUNT, ROUNDS, AT_ONCE = 200, 3, 16
KILLED, KILL_AFTER = 1000, 300
SHARE, LIMIT = 0.05, 60.0
TASK, ALONE, ENGINE = "a Ray task that does nothing", "a guest, by a zygote alone", "a guest, through Ray"


def save(path: str) -> None:
    config = corral.MachineConfig(str(tiny_guest("hello")), memory=4 << 20)
    with corral.Machine(config) as vm:
        vm.step()
        vm.snapshot(path)


def tasks(ray: Any, nothing: Any) -> float:
    began = time.perf_counter()
    ray.get([nothing.remote() for _ in range(COUNT)])
    return (time.perf_counter() - began) / COUNT


def alone(path: str) -> float:
    async def all_of_them() -> float:
        zygote, room = ZygoteClient(), asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with room:
                answer = await zygote.run(["boot", "--restore", path, "--overlay"], LIMIT, path)
                assert answer["out"] == "hello\n", answer

        try:
            await one()
            began = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(COUNT)))
            return (time.perf_counter() - began) / COUNT
        finally:
            zygote.close()

    return asyncio.run(all_of_them())


def through(ray: Any, path: str, spent: list[tuple[float, float]]) -> float:
    """From the first guest's end to the last one's; `spent` gets CPU seconds of driver and actors for each guest."""
    with Engine(ray, of_image(path, [], COUNT + 1, None, None, SHARE, LIMIT)) as engine:
        ends = engine.run()
        next(ends)
        began, before = time.perf_counter(), (time.process_time(), actors(ray))
        for number, end in enumerate(ends, 2):
            assert end.out == "hello\n", end
            if number == COUNT:  # the actors are there until the last one's end is taken
                spent.append(((time.process_time() - before[0]) / COUNT, (actors(ray) - before[1]) / COUNT))
        return (time.perf_counter() - began) / COUNT


def actors(ray: Any) -> float:
    """CPU seconds of all host actors."""
    return sum(float(one.get("cpu", 0.0)) for one in jobs.look(ray))


def killed(ray: Any, cluster: Any, second: Any, path: str) -> bool:
    began, ends, again = time.perf_counter(), [], 0
    with Engine(ray, of_image(path, [], KILLED, None, None, SHARE, LIMIT), retries=1) as engine:
        for end in engine.run():
            ends.append(end)
            if len(ends) == KILL_AFTER:
                cluster.remove_node(second, allow_graceful=False)
        again = engine.account.again
    took = time.perf_counter() - began
    numbers = {end.number for end in ends if end.how == ENDED and end.status == 0}
    twice = sum(1 for end in ends if end.attempts > 1)
    print(f"\n{KILLED} guests over two nodes, one killed: {len(numbers)} ended, {again} started again; {took:.1f} s")
    met = verdict("guests not accounted for", KILLED - len(numbers), 0, "guests")
    return met & verdict("ends beyond one a guest", len(ends) - KILLED, 0, "ends") & (twice == again)


def main() -> bool:
    try:
        versions.check()
    except HostError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return False
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE, "resources": {GUESTS: AT_ONCE // 2}}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    ray = connect(cluster.address)
    try:
        with tempfile.TemporaryDirectory(prefix="corral-fleet-") as folder:
            path = str(Path(folder, "hello"))
            save(path)
            nothing = ray.remote(num_cpus=0.25)(_nothing)
            spent: list[tuple[float, float]] = []
            ways = {
                TASK: partial(tasks, ray, nothing),
                ALONE: partial(alone, path),
                ENGINE: partial(through, ray, path, spent),
            }
            took = report(f"fleet, each of {COUNT}, two nodes", interleaved(ways, ROUNDS), ALONE)
            print(f"  {1 / took[ENGINE]:.0f} guests a second through Ray, {1 / took[ALONE]:.0f} without")
            driver, hosts = (sorted(values)[len(values) // 2] * 1000 for values in zip(*spent, strict=True))
            print(f"  of a CPU, for a guest: {driver:.2f} ms of the driver's, {hosts:.2f} ms of the host actors'")
            met = verdict("a guest, started and answered", took[ENGINE] * 1000, 10, "ms")
            met &= verdict("what Ray costs of it", (took[ENGINE] - took[ALONE]) * 1000, 10, "ms")
            return met & killed(ray, cluster, second, path)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _nothing() -> None:
    pass


if __name__ == "__main__":
    sys.exit(not main())
