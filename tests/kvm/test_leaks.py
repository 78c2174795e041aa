"""A thousand rounds of create, run, destroy in one process leave nothing behind."""

from __future__ import annotations

import ctypes
import gc
import os
import time

import pytest

from corral.backends.console import Console
from corral.config import MachineConfig
from corral.core.exits import Cause
from corral.errors import BootError
from corral.machine import Machine
from tests.support.tiny_guests import tiny_guest

ROUNDS = 1000
WARM_UP = 50
MAPPING_SLACK_KIB = 2048  # the allocator's own growth; one leaked round would be 16 KiB and more, each


def footprint(threads: int = 1 << 20) -> tuple[int, int, int, int]:
    """File descriptors, threads, mappings, and private KiB of this process; for the kernel a thread that Python has
    joined ends a moment later, so more than so many are given ten seconds."""
    limit = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < limit:
        time.sleep(0.01)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # glibc keeps some of what was freed
    with open("/proc/self/smaps_rollup") as rollup:
        private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private"))
    with open("/proc/self/maps") as maps:
        mappings = sum(1 for _ in maps)
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), mappings, private


def rounds(count: int) -> None:
    config = MachineConfig(kernel=str(tiny_guest("hello")), memory=2 << 20, cpus=2)
    for _ in range(count):
        with Machine(config) as machine:
            assert machine.run(Console(), timeout=10).cause is Cause.RESET


@pytest.mark.long
def test_a_thousand_rounds() -> None:
    rounds(WARM_UP)
    fds, threads, mappings, private = footprint(1)
    rounds(ROUNDS)
    after = footprint(threads)
    assert after[:2] == (fds, threads)
    assert after[2] <= mappings + 4
    assert after[3] <= private + MAPPING_SLACK_KIB


def test_a_machine_that_cannot_be_built_leaves_nothing() -> None:
    rounds(5)
    before = footprint(1)[:2]
    bad = MachineConfig(kernel=os.devnull, memory=2 << 20)
    for _ in range(20):
        with pytest.raises(BootError, match="null"):
            Machine(bad)
    assert footprint(before[1])[:2] == before
