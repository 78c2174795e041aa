"""Jobs of guests over two nodes: each guest is accounted for, whatever happens, and none is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.fleet.account import ENDED, LOST, STOPPED, GuestEnd
from corral.fleet.job import FleetJob, GuestShare, of_image
from corral.ray import engine, jobs
from corral.ray.engine import Engine
from tests.fleet.conftest import Nodes
from tests.support.tiny_guests import tiny_guest

COUNT = 60
SHARE = 0.05
LIMIT = 60.0


def of_snapshot(path: str, count: int) -> FleetJob:
    return of_image(path, [], count, None, None, SHARE, LIMIT)


def whole(nodes: Nodes, job: FleetJob, retries: int, kill_after: int = 0) -> tuple[Engine, list[GuestEnd]]:
    """Runs it; with `kill_after` the second node is killed when so many guests have ended."""
    ends = []
    with Engine(nodes.ray, job, retries) as running:
        for end in running.run():
            ends.append(end)
            if len(ends) == kill_after:
                nodes.kill_second()
    assert sorted(end.number for end in ends) == list(range(1, job.count + 1))
    return running, ends


def none_left(left: Callable[[], set[int]]) -> None:
    until = time.monotonic() + LIMIT
    while left():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_guests_from_a_snapshot_run_on_both_nodes(nodes: Nodes, snapshot: str, left: Callable[[], set[int]]) -> None:
    running, ends = whole(nodes, of_snapshot(snapshot, COUNT), 0)
    assert {(end.how, end.status, end.out) for end in ends} == {(ENDED, 0, "hello\n")}
    assert len({end.host for end in ends}) == 2
    assert running.account.again == 0
    none_left(left)


def test_a_killed_node_loses_its_guests_and_no_other(nodes: Nodes, snapshot: str, left: Callable[[], set[int]]) -> None:
    _, ends = whole(nodes, of_snapshot(snapshot, COUNT), 0, COUNT // 3)
    lost = [end for end in ends if end.how == LOST]
    assert 0 < len(lost) <= 8 + 2  # what ran there and what waited there
    assert len({end.host for end in lost}) == 1
    assert all(end.attempts == 1 for end in ends)
    assert all((end.status, end.out) == (0, "hello\n") for end in ends if end.how == ENDED)
    none_left(left)


def test_what_a_killed_node_lost_runs_once_more_where_it_is_asked(
    nodes: Nodes, snapshot: str, left: Callable[[], set[int]]
) -> None:
    running, ends = whole(nodes, of_snapshot(snapshot, COUNT), 1, COUNT // 3)
    assert {(end.how, end.status) for end in ends} == {(ENDED, 0)}
    again = [end for end in ends if end.attempts > 1]
    assert 0 < len(again) == running.account.again
    assert {end.attempts for end in again} == {2}
    none_left(left)


def test_a_snapshot_that_is_corrupt_fails_each_guest_with_one_line(nodes: Nodes, snapshot: str, tmp_path: Path) -> None:
    job = of_snapshot(snapshot, 6)
    broken = tmp_path / "broken"
    broken.write_bytes(Path(snapshot).read_bytes()[: 1 << 16])
    words = tuple(str(broken) if word == snapshot else word for word in job.words)
    _, ends = whole(nodes, FleetJob(words, 6, job.share, LIMIT, (str(broken),)), 0)
    assert {(end.how, end.status) for end in ends} == {(ENDED, 2)}
    assert all(end.err.startswith("corral: ") and end.err.count("\n") == 1 for end in ends)


def test_a_full_node_gets_no_guest_and_the_other_runs_all(nodes: Nodes, snapshot: str) -> None:
    from corral.ray.node import GUESTS

    class Taken:
        def is_there(self) -> bool:
            return True

    taken = nodes.ray.remote(num_cpus=0, resources={GUESTS: 8})(Taken).remote()
    assert nodes.ray.get(taken.is_there.remote())
    try:
        _, ends = whole(nodes, of_snapshot(snapshot, 20), 0)
    finally:
        nodes.ray.kill(taken)
    assert {(end.how, end.status) for end in ends} == {(ENDED, 0)}
    assert len({end.host for end in ends}) == 1


def test_a_guest_that_no_node_has_room_for_is_told(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 2.0)
    job = FleetJob(("boot", str(tiny_guest("hello"))), 1, GuestShare(64.0, 1 << 20))
    with Engine(nodes.ray, job) as running, pytest.raises(HostError, match="no node has room for a guest of 64 CPUs"):
        list(running.run())


def test_a_job_that_is_stopped_from_beside_ends_with_every_guest_told(
    nodes: Nodes, left: Callable[[], set[int]]
) -> None:
    job = FleetJob(("boot", str(tiny_guest("spin"))), 40, GuestShare(SHARE, 1 << 20), LIMIT)
    ends = []
    with Engine(nodes.ray, job) as running:
        stopping = False

        def stop() -> bool:
            nonlocal stopping
            if not stopping and sum(one.get("running", 0) for one in jobs.look(nodes.ray)) >= 16:
                stopping = True
                assert jobs.stop(nodes.ray, running.name) == 2
            return False

        ends = list(running.run(stop))
    assert {end.how for end in ends} == {STOPPED}
    assert len(ends) == 40
    none_left(left)


def test_ctrl_c_ends_the_command_and_its_guests(nodes: Nodes, snapshot: str, left: Callable[[], set[int]]) -> None:
    words = [sys.executable, "-m", "corral", "fleet", "run", snapshot, "-n", "100000", "--address", nodes.address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout
        assert command.stdout.readline().endswith(": hello\n")
        command.send_signal(signal.SIGINT)
        errors = command.communicate(timeout=LIMIT)[1]
    assert command.returncode == 130
    assert "Traceback" not in errors
    none_left(left)


def test_the_command_tells_of_each_guest_and_its_status_is_the_first_that_failed(nodes: Nodes, snapshot: str) -> None:
    hello = [*(sys.executable, "-m", "corral", "fleet", "run", snapshot, "-n", "9", "--json", "--share", "0.1")]
    done = subprocess.run(
        [*hello, "--address", nodes.address], capture_output=True, text=True, timeout=LIMIT, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(one["guest"] for one in told) == list(range(1, 10))
    assert {one["out"] for one in told} == {"hello\n"}
    assert "9 of 9 guests ended with status 0" in done.stderr
    listed = [sys.executable, "-m", "corral", "fleet", "ps", "--json", "--address", nodes.address]
    found = json.loads(subprocess.run(listed, capture_output=True, text=True, timeout=LIMIT, check=True).stdout)
    assert [host["guests"] for host in found["hosts"]] == [8, 8]
    assert found["jobs"] == []
