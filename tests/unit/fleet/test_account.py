"""Each guest of a job ends once in the account, whatever becomes of its host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.fleet.account import ENDED, LOST, STOPPED, Account, GuestEnd
from corral.fleet.job import FleetJob, GuestShare, Matrix, of_image

GOOD: dict[str, Any] = {"status": 0, "out": "hello\n", "err": "", "cut": False, "seconds": 0.1}
NO_ROOM: dict[str, Any] = {"status": 3, "out": "", "err": "no memory", "cut": False, "seconds": 0.1}


def test_guests_are_given_once_and_in_order() -> None:
    account = Account(3)
    assert [account.take("a"), account.take("b"), account.take("a"), account.take("b")] == [1, 2, 3, None]
    ends = [account.ended(number, host, GOOD) for number, host in ((2, "b"), (1, "a"), (3, "a"))]
    assert ends[0] == GuestEnd(2, ENDED, 1, "b", 0, "hello\n", seconds=0.1)
    assert account.over
    assert account.totals() == {ENDED: 3, LOST: 0, STOPPED: 0}


def test_what_ran_on_a_lost_host_is_lost_and_does_not_run_twice() -> None:
    account = Account(3)
    for host in ("a", "b", "a"):
        account.take(host)
    ends = account.lose("a", "the node died")
    assert [(end.number, end.how, end.attempts, end.status) for end in ends] == [(1, LOST, 1, None), (3, LOST, 1, None)]
    assert account.take("b") is None
    assert not account.over
    account.ended(2, "b", GOOD)
    assert account.over


def test_with_retries_it_runs_again_as_often_as_was_asked() -> None:
    account = Account(1, retries=1)
    account.take("a")
    assert account.lose("a", "gone") == []
    assert account.take("b") == 1
    (end,) = account.lose("b", "gone too")
    assert (end.how, end.attempts, account.again) == (LOST, 2, 1)
    assert account.over


def test_a_command_that_failed_has_run_and_is_not_repeated() -> None:
    account = Account(1, retries=5)
    account.take("a")
    end = account.ended(1, "a", GOOD | {"status": 1})
    assert end is not None
    assert (end.status, end.attempts) == (1, 1)


def test_a_guest_that_its_host_could_not_run_goes_to_another() -> None:
    account = Account(1, retries=1)
    account.take("a")
    assert account.ended(1, "a", NO_ROOM) is None
    assert account.take("b") == 1
    end = account.ended(1, "b", NO_ROOM)
    assert end is not None
    assert (end.how, end.status, end.attempts) == (ENDED, 3, 2)


def test_a_stop_settles_what_waits_and_what_runs() -> None:
    account = Account(4)
    account.take("a")
    account.take("b")
    account.ended(1, "a", GOOD)
    assert [(end.number, end.how) for end in account.stop()] == [(2, STOPPED), (3, STOPPED), (4, STOPPED)]
    assert account.over
    assert account.take("a") is None


def test_a_late_answer_is_a_bug_and_not_a_second_end() -> None:
    account = Account(1)
    account.take("a")
    account.lose("a", "gone")
    with pytest.raises(AssertionError, match="does not run on a"):
        account.ended(1, "a", GOOD)


def test_a_job_gives_each_guest_its_number() -> None:
    job = FleetJob(("boot", "--restore", "f", "--", "echo {i}"), 7, GuestShare(1, 1 << 20))
    assert job.words_of(7) == ["boot", "--restore", "f", "--", "echo 7"]


@pytest.mark.parametrize("count", [0, 1_000_001])
def test_a_job_has_bounds(count: int) -> None:
    with pytest.raises(ConfigError, match="1 to 1000000"):
        FleetJob(("boot",), count, GuestShare(1, 1 << 20))


def test_a_matrix_has_each_case_once() -> None:
    matrix = Matrix(("small", "./k"), ("", "debian"), (1, 2))
    job = matrix.job(["true"], 512 << 20, 0.5, 60)
    assert job.count == len(set(matrix.cases)) == 8
    assert job.words_of(5)[:4] == ["boot", "./k", "--cpus", "1"]
    assert Matrix(("",), ("debian",), (1,)).job([], None, 0.5, None).words_of(1)[:3] == ["boot", "debian", "--cpus"]
    assert job.words_of(1)[:3] == ["boot", "--kernel", "small"]
    assert job.words_of(8) == [
        *("boot", "debian", "--kernel", "./k", "--cpus", "2"),
        *("--fresh", "--memory", "512", "--timeout", "60", "--", "true"),
    ]


def test_files_are_named_by_their_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_bytes(b"")
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Matrix(("./k",), ("",), (1,)).job([], None, 0.5, None).words_of(1)[1] == f"{tmp_path}/k"
    assert f"{tmp_path}/root" in of_image("./root", [], 1, None, None, 0.5, None).words
    assert "python:3.12" in of_image("python:3.12", [], 1, None, None, 0.5, None).words
