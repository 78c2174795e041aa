"""Well-known tools, as the distribution has them: how each is called, what of its answer counts, and a root for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.compare.processes import Failed

Metrics = dict[str, tuple[float, str]]

SECONDS = "2"  # that each works, in each sample


@dataclass(frozen=True)
class Tool:
    """`name` is what --only takes; `package` has the program. `read` finds the results in what it printed, and raises
    Failed. `scratch`: MiB of the disk that its arguments name."""

    name: str
    package: str
    arguments: tuple[str, ...]
    read: Callable[[str], Metrics]
    scratch: int = 0


def of_fio(said: str) -> Metrics:
    """From fio's JSON: the one job's requests per second, and how long the slow ones took."""
    text = said[said.find("{") : said.rfind("}") + 1]
    try:
        (job,) = json.loads(text)["jobs"]
        side = job["read" if job["read"]["total_ios"] else "write"]
        slow = side["clat_ns"]["percentile"]["99.000000"]
        return {"requests": (float(side["iops"]), "1/s"), "latency-p99": (slow / 1e3, "us")}
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"fio's answer is not what fio answers: {type(error).__name__}") from None


def _number(metric: str, pattern: str, unit: str) -> Callable[[str], Metrics]:
    """For a tool whose answer has one number: the pattern's group."""

    def read(said: str) -> Metrics:
        found = re.search(pattern, said)
        if not found:
            raise Failed(f"no {metric} in what it printed")
        return {metric: (float(found[1]), unit)}

    return read


def _fio(kind: str, size: str, depth: int) -> tuple[str, ...]:
    options = (
        f"--rw={kind} --bs={size} --iodepth={depth} --size=128m --ioengine=libaio --direct=1 --thread --time_based"
    )
    return (
        *options.split(),
        f"--runtime={SECONDS}",
        "--name=compare",
        "--output-format=json",
        "--filename",
        "{scratch}",
    )


_DECIMAL = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"

ALL = (
    Tool("fio-randread", "fio", _fio("randread", "4k", 16), of_fio, scratch=128),
    Tool("fio-write", "fio", _fio("write", "1m", 4), of_fio, scratch=128),
    Tool(
        "sysbench-cpu",
        "sysbench",
        ("cpu", f"--time={SECONDS}", "run"),
        _number("events", rf"events per second:\s+{_DECIMAL}", "1/s"),
    ),
    Tool(
        "sysbench-memory",
        "sysbench",
        ("memory", f"--time={SECONDS}", "--memory-total-size=1T", "run"),
        _number("bandwidth", rf"\({_DECIMAL} MiB/sec\)", "MiB/s"),
    ),
    Tool(
        "stress-ng-matrix",
        "stress-ng",
        ("--matrix", "1", "--timeout", SECONDS, "--temp-path", "/tmp", "--metrics", "--yaml", "/proc/self/fd/1"),
        _number("operations", rf"bogo-ops-per-second-real-time:\s+{_DECIMAL}", "1/s"),
    ),
)


def root(program: Path, folder: Path) -> None:
    """Fills `folder` with the program and the libraries that it is linked with, where the host has them, and with
    places for what every contender mounts. Raises Failed."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"ldd {program}: {done.stderr.strip()[-200:]}")
    for name in ("bin", "dev", "proc", "own", "tmp", "var/tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "scratch").touch()
    for word in [str(program), *(word for word in done.stdout.split() if word.startswith("/"))]:
        copy = folder / word.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(word, copy)
