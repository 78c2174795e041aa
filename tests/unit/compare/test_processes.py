"""Processes under measurement, and that nothing of them is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from corral.compare import processes
from corral.compare.processes import Failed, Household, Measured, descendants, serve

SHELL = ["/bin/sh", "-c"]


def test_lines_have_the_moment_at_which_they_came() -> None:
    with Measured([*SHELL, "echo one; sleep 0.2; echo two"]) as process:
        first = process.until(lambda line: line == b"one\n", 10)
        second = process.until(lambda line: line == b"two\n", 10)
        assert process.succeed(10) >= second >= first + 0.15
        assert process.first_byte == first > process.begun


def test_it_runs_where_it_is_told_and_we_stay_where_we_were() -> None:
    cpu, before = max(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    with Measured([sys.executable, "-c", code], [cpu]) as process:
        assert process.until(lambda line: True, 10)
        assert process.lines[0][1] == f"[{cpu}]\n".encode()
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "status 3"),
        ("echo no such thing >&2; exit 1", "status 1: no such thing"),
        ("echo Kernel panic - not syncing; echo Offset; exit 1", "status 1: Kernel panic"),
        ("echo DOOM now >&2; echo more >&2; sleep 60", "it gave up: DOOM now"),
        ("sleep 60", "did not end within 0.5 s"),
    ],
)
def test_what_goes_wrong_is_one_line(script: str, message: str) -> None:
    with Measured([*SHELL, script], fatal=b"DOOM") as process, pytest.raises(Failed, match=message) as caught:
        process.succeed(0.5)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(Failed, match="cannot run /nowhere: No such file"):
        Measured(["/nowhere"])


def test_output_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MOST_OUTPUT", 1 << 17)
    with Measured([*SHELL, "yes"]) as process:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            serve([process], 0.1)
        assert sum(len(line) for _, line in process.lines) <= 1 << 17


def test_many_are_served_at_once() -> None:
    with Measured([*SHELL, "sleep 0.2; echo a"]) as one, Measured([*SHELL, "echo b"]) as other:
        while one.status is None or other.status is None:
            serve([one, other], 1)
        assert [one.lines[0][1], other.lines[0][1]] == [b"a\n", b"b\n"]
        assert one.ended is not None
        assert other.ended is not None
        assert one.ended > other.ended


def test_nothing_is_left_however_it_hides() -> None:
    """A process that forks twice, takes a session of its own, and whose parents end before it."""
    before = set(descendants(os.getpid()))
    hides = "(setsid sh -c 'echo $$; exec sleep 1000' &); sleep 1000"
    with Household():
        with Measured([*SHELL, hides]) as process:
            process.until(lambda line: True, 10)
            pid = int(process.lines[0][1])
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert set(descendants(os.getpid())) == before
