"""Interleaved samples, medians and ratios: machines are noisy, and drift hits all contenders alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

Samples = dict[str, list[float]]


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Samples:
    """Runs A B C A B C ...; each contender returns what it measured. The first `warm_up` rounds do not count."""
    samples: Samples = {name: [] for name in contenders}
    for index in range(rounds + warm_up):
        for name, run in contenders.items():
            value = run()
            if index >= warm_up:
                samples[name].append(value)
    return samples


def seconds(command: list[str], environment: dict[str, str] | None = None, timeout: float = 300) -> float:
    """Wall time of a whole process, from start to reaped. Its output goes nowhere; it must succeed."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, **quiet)
    # Not wait(timeout): that looks for the end at intervals, which would be what is measured.
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    status = process.wait()
    end = time.perf_counter()
    watchdog.cancel()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return end - start


def report(title: str, samples: Samples, against: str, unit: str = "ms", scale: float = 1e3) -> dict[str, float]:
    """Prints a table: median, spread and ratio of medians to the contender `against`. Returns the medians."""
    medians = {name: statistics.median(values) for name, values in samples.items()}
    rounds = len(next(iter(samples.values())))
    print(f"\n{title} ({rounds} interleaved rounds; {unit})")
    print(f"  {'':34}{'median':>10}{'min':>10}{'max':>10}{'ratio':>9}")
    for name, values in samples.items():
        ratio = medians[name] / medians[against]
        row = (medians[name] * scale, min(values) * scale, max(values) * scale)
        print(f"  {name:34}" + "".join(f"{value:10.2f}" for value in row) + f"{ratio:9.2f}")
    raw = {"title": title, "unit": "s" if scale == 1e3 else unit, "samples": samples}
    print(f"  raw: {json.dumps(raw)}" if "--json" in sys.argv else "", end="\n" if "--json" in sys.argv else "")
    return medians


def verdict(what: str, value: float, limit: float, unit: str = "x") -> bool:
    """Prints a figure beside what it should be at most."""
    met = value <= limit
    print(f"  {'met' if met else 'NOT MET':8} {what}: {value:.2f} {unit}, at most {limit:g} {unit}")
    return met
