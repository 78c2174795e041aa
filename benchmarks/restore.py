"""restore: a guest that goes on from a snapshot, against booting it, and against a container.

Whole processes: `corral boot -- true` from the boot cache and without it, `corral boot --restore` of a shell whose
standard input is at its end, and `runc run` of a program that says a line, where there is runc. And in a process that
has Corral loaded: `corral.restore()` alone, and until the restored shell has answered a line.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import corral
from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from corral.compare import programs
from corral.compare.contenders.base import Job, Kit
from corral.compare.contenders.runc import Runc

ROUNDS = 15
LIMIT = 60.0  # seconds
WHOLE, BOOT, CACHED, RUNC = "corral boot --restore", "corral boot --fresh -- true", "corral boot -- true", "runc run"
CALL, ANSWER = "corral.restore()", "until its shell answered"


def save(path: Path) -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LIMIT)
        vm.snapshot(str(path))


def call(path: Path) -> float:
    start = time.perf_counter()
    with corral.restore(path):
        return time.perf_counter() - start


def answer(path: Path) -> float:
    start = time.perf_counter()
    with corral.restore(path) as vm:
        vm.console.send("echo $((6*7))\n")
        vm.console.expect("\n42", timeout=LIMIT)
        return time.perf_counter() - start


def contain(runc: Runc) -> float:
    launch = runc.launch(Job(programs.binary("hello")))
    try:
        return seconds(launch.argv, launch.environment)
    finally:
        runc.kit.pending += launch.undo
        runc.kit.tidy_up(launch.undo)


def main() -> bool:
    program = installed.corral()
    with tempfile.TemporaryDirectory(prefix="corral-restore-") as folder:
        path = Path(folder, "shell")
        save(path)
        whole = {
            WHOLE: partial(seconds, [program, "boot", "--restore", str(path)], installed.environment()),
            CACHED: partial(seconds, [program, "boot", "--", "true"], installed.environment()),
            BOOT: partial(seconds, [program, "boot", "--fresh", "--", "true"], installed.environment()),
        }
        runc = Runc(Kit(Path(folder), 0))
        if not runc.missing():
            whole[RUNC] = partial(contain, runc)
        medians = report("restore, whole processes", interleaved(whole, ROUNDS), BOOT)
        met = verdict("restore / boot", medians[WHOLE] / medians[BOOT], 0.8)
        if RUNC in medians:
            met &= verdict("boot from the cache / runc", medians[CACHED] / medians[RUNC], 1.0)
        inside = {CALL: partial(call, path), ANSWER: partial(answer, path)}
        report("restore, in a process that has Corral loaded", interleaved(inside, ROUNDS), ANSWER)
    return met


if __name__ == "__main__":
    sys.exit(not main())
