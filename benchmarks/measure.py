"""Interleaved samples, medians and ratios: machines are noisy, and drift hits all contenders alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from corral.compare.manifest import busy_seconds

Samples = dict[str, list[float]]  # seconds, by contender

SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6}
BUSY = 0.5  # of the CPUs, before a benchmark begins: its samples then tell of others too
QUIET, GLANCE = 0.1, 0.2  # CPUs that others keep busy, at most, for so many seconds: then nobody disturbs


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Samples:
    """Runs A B C A B C ...; each contender returns the seconds that it measured. The first rounds do not count."""
    _tell_when_busy()
    samples: Samples = {name: [] for name in contenders}
    for index in range(rounds + warm_up):
        for name, run in contenders.items():
            value = run()
            if index >= warm_up:
                samples[name].append(value)
    return samples


def seconds(command: list[str], environment: dict[str, str] | None = None, timeout: float = 300) -> float:
    """Wall time of a whole process, from start to reaped. Its output goes nowhere; it must succeed."""
    nothing = subprocess.DEVNULL
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=nothing)
    # Not wait(timeout): that looks for the end at intervals, which would be what is measured.
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    status = process.wait()
    end = time.perf_counter()
    watchdog.cancel()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return end - start


def report(title: str, samples: Samples, against: str, unit: str = "ms") -> dict[str, float]:
    """Prints a table: median, spread and ratio of medians to the contender `against`. Returns the medians in seconds.

    With --json on the command line the samples follow, one JSON object a line.
    """
    medians = {name: statistics.median(values) for name, values in samples.items()}
    rounds = len(samples[against])
    print(f"\n{title} ({rounds} interleaved rounds; {unit})")
    print(f"  {'':34}{'median':>10}{'min':>10}{'max':>10}{'ratio':>9}")
    for name, values in samples.items():
        row = [value * SCALES[unit] for value in (medians[name], min(values), max(values))]
        print(f"  {name:34}" + "".join(f"{value:10.2f}" for value in row) + f"{medians[name] / medians[against]:9.2f}")
    if "--json" in sys.argv:
        print(json.dumps({"title": title, "seconds": samples}))
    return medians


def verdict(what: str, value: float, limit: float, unit: str = "x") -> bool:
    """Prints a figure beside what it should be at most."""
    met = value <= limit
    print(f"  {'met' if met else 'NOT MET':8} {what}: {value:.2f} {unit}, at most {limit:g} {unit}", flush=True)
    return met


def wait_until_quiet(patience: float) -> float:
    """Returns when other programs leave this machine alone, after `patience` seconds at the latest. What is left of
    that: for what needs each CPU for a thread of its own, where one more changes the figures and not just their spread.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(GLANCE)
        if busy_seconds() - before <= QUIET * GLANCE:
            break
    return max(0.0, deadline - time.monotonic())


def _tell_when_busy() -> None:
    load, cpus = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > BUSY * cpus:
        print(f"\n(other programs keep this machine busy: load {load:.1f} on {cpus} CPUs)")
