"""The workloads' programs: each builds, measures itself, checks its own work, and says what is wrong in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from corral.compare import metric_lines, programs

METRICS = {
    "disk": {"write-sequential", "read-sequential", "read-4K", "read-4K-p50", "read-4K-p99", "write-and-flush"},
    "forkexec": {"fork", "exec"},
    "hello": {"hello"},
    "integer": {"hash", "sort"},
    "latency": {"latency-16K", "latency-256K", "latency-4M", "latency-32M"},
    "linpack": {"linpack", "residual"},
    "pagefault": {"first-touch", "copy-on-write"},
    "parallel": {"stream", "chase", "linpack"},
    "pipe": {"pipe"},
    "stream": {"copy", "scale", "add", "triad"},
    "switch": {"process-switch", "thread-switch"},
    "syscall": {"getppid", "write-null", "read-zero"},
    "timer": {"clock", "late-p50", "late-p99", "late-most"},
}


def words(name: str, tmp_path: Path) -> list[str]:
    if name == "disk":
        (tmp_path / "scratch").touch()
        return [str(tmp_path / "scratch"), "0.1", "2"]
    return [] if name == "hello" else ["0.1", *(["3"] if name == "stream" else ["60"] if name == "linpack" else [])]


def test_each_program_is_here() -> None:
    assert programs.names() == sorted(METRICS)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_program(name: str, tmp_path: Path) -> None:
    check(name, programs.binary(name), tmp_path)


def check(name: str, program: Path, tmp_path: Path) -> None:
    """Runs it for a moment: it measures what it should, and finds its work right."""
    done = subprocess.run([str(program), *words(name, tmp_path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done
    assert done.stderr == b""
    found = metric_lines.parse_all(done.stdout.splitlines())
    assert set(found) >= METRICS[name]
    assert all(value > 0 for metric, (value, _) in found.items() if not metric.startswith("late-")), found
    assert all(metric_lines.parse(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("integer", ["x"], "a number of seconds"),
        ("linpack", ["1", "1"], "an order is 2 to 2000"),
        ("stream", ["1", "0"], "an array has"),
        ("parallel", ["0.1", "lunch"], "stream, chase or linpack"),
        ("parallel", ["0.1", "linpack", "4095"], "a thread's CPU"),
        ("disk", [], "wants the path"),
        ("disk", ["/nowhere/disk"], "No such file"),
        ("disk", ["/dev/null", "1", "0"], "a size is"),
    ],
)
def test_what_cannot_be_is_one_line(name: str, arguments: list[str], why: str) -> None:
    done = subprocess.run([str(programs.binary(name)), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert why in done.stdout
    assert done.stdout.count("\n") == 1
