"""A plan carried out on guest memory: bound to the host's nodes before anything touches it, and made where asked."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory
    from corral.numa.plan import Plan

MOST_THREADS = 4  # a node: clearing pages keeps its memory busy with no more
PIECE = 64 << 20  # bytes that a thread makes at a time


def bind(memory: GuestMemory, plan: Plan) -> None:
    """Before the first touch. Raises HostError when the host does not have the memory, or does not allow it."""
    for offset, length, node in plan.memory_ranges():
        error = lib.corral_memory_bind(memory.host_address + offset, length, node, plan.strict)
        if error:
            raise HostError(f"guest memory cannot be bound to node {node}: {os.strerror(-error)}; see --numa none")
    if plan.prealloc:
        _populate(memory, plan)


def _populate(memory: GuestMemory, plan: Plan) -> None:
    """Each node's part by threads that run there, all at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=64) as pool:
        at, pieces = 0, []
        for number, node in enumerate(plan.nodes):
            here = sorted({cpu for planned in plan.cpus if planned.node == number for cpu in planned.cpus})
            step = max(PIECE, plan.page)
            starts = list(range(at, at + node.memory, step))
            threads = min(MOST_THREADS, len(here) or 1, len(starts))
            for thread in range(threads):
                mine = [(start, min(step, at + node.memory - start)) for start in starts[thread::threads]]
                pieces.append(pool.submit(_make, memory.host_address, mine, here))
            at += node.memory
        failures = [error for piece in pieces if (error := piece.result())]
    if failures:
        pages = f"of {plan.page >> 20} MiB pages" if plan.page else "of memory"
        raise HostError(
            f"the host does not have the guest's {memory.size >> 20} MiB {pages} where they are to be: "
            f"{os.strerror(-failures[0])}; see corral topology, or ask for less with --memory"
        )


def _make(address: int, pieces: list[tuple[int, int]], cpus: list[int]) -> int:
    """0 or -errno."""
    if cpus:
        os.sched_setaffinity(0, cpus)  # of this thread, which ends with the pool
    for start, length in pieces:
        error = lib.corral_memory_populate(address + start, length)
        if error:
            return error
    return 0
