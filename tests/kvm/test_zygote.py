"""The process that forks guests for a job: each answer is its guest's, and no guest outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import HostError
from corral.fleet.client import ZygoteClient
from tests.support.tiny_guests import tiny_guest

LIMIT = 60.0  # seconds


def run(use: Callable[[ZygoteClient], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        zygote = ZygoteClient()
        try:
            return await asyncio.wait_for(use(zygote), LIMIT)
        finally:
            zygote.close()

    return asyncio.run(whole())


def children(pid: int) -> set[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(word) for word in found.read_text().split()} if found.exists() else set()


def process(zygote: ZygoteClient) -> int:
    assert zygote._process
    return zygote._process.pid


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_guest_answers_with_its_output_and_status() -> None:
    hello = str(tiny_guest("hello"))
    answer = run(lambda zygote: zygote.run(["boot", hello]))
    assert (answer["status"], answer["out"], answer["cut"]) == (0, "hello\n", False)


def test_many_at_once_have_their_own() -> None:
    words = [["boot", str(tiny_guest("hello"))], ["boot", "/nowhere"], ["--version"]]

    async def all_of_them(zygote: ZygoteClient) -> Any:
        return await asyncio.gather(*(zygote.run(one) for one in words * 3))

    answers = run(all_of_them)
    assert [answer["status"] for answer in answers] == [0, 2, 0] * 3
    assert [answer["out"] for answer in answers] == ["hello\n", "", f"corral {corral.__version__}\n"] * 3
    assert all("/nowhere" in answer["err"] for answer in answers[1::3])


def test_guests_go_on_from_a_snapshot(tmp_path: Path) -> None:
    path = str(tmp_path / "started")
    with corral.Machine(corral.MachineConfig(str(tiny_guest("hello")), memory=4 << 20)) as vm:
        vm.step()
        vm.snapshot(path)

    async def three(zygote: ZygoteClient) -> Any:
        return [await zygote.run(["boot", "--restore", path], snapshot=path) for _ in range(3)]

    assert [answer["out"] for answer in run(three)] == ["hello\n"] * 3


def test_a_file_that_is_no_snapshot_is_told_by_each_guest(tmp_path: Path) -> None:
    path = tmp_path / "none"
    path.write_bytes(os.urandom(8192))
    answer = run(lambda zygote: zygote.run(["boot", "--restore", str(path)], snapshot=str(path)))
    assert answer["status"] == 2
    assert answer["err"].count("\n") == 1


def test_more_output_than_is_kept_is_cut() -> None:
    chatter = str(tiny_guest("chatter"))
    answer = run(lambda zygote: zygote.run(["boot", "--timeout", "3", chatter], 3.0))
    assert answer["status"] == 124
    assert len(answer["out"]) <= 1 << 20


def test_no_guest_is_left_when_its_zygote_is_closed() -> None:
    spin = str(tiny_guest("spin"))

    async def begin(zygote: ZygoteClient) -> set[int]:
        waiting = asyncio.gather(*(zygote.run(["boot", spin]) for _ in range(3)), return_exceptions=True)
        while zygote._process is None or len(children(process(zygote))) < 3:
            await asyncio.sleep(0.01)
        found = children(process(zygote))
        zygote.close()
        await waiting
        return found

    for pid in run(begin):
        wait_for(lambda pid=pid: is_gone(pid))  # type: ignore[misc]


def test_guests_of_a_zygote_that_was_killed_are_told_as_failed_and_the_next_one_runs() -> None:
    spin, hello = str(tiny_guest("spin")), str(tiny_guest("hello"))

    async def killed(zygote: ZygoteClient) -> tuple[set[int], Any]:
        waiting = asyncio.ensure_future(zygote.run(["boot", spin]))
        while zygote._process is None or not children(process(zygote)):
            await asyncio.sleep(0.01)
        found = children(process(zygote))
        os.kill(process(zygote), signal.SIGKILL)
        with pytest.raises(HostError, match="has ended"):
            await waiting
        return found, await zygote.run(["boot", hello])

    pids, answer = run(killed)
    assert answer["out"] == "hello\n"
    for pid in pids:
        wait_for(lambda pid=pid: is_gone(pid))  # type: ignore[misc]


def test_a_guest_that_does_not_end_in_time_is_killed() -> None:
    began = time.monotonic()
    answer = run(lambda zygote: zygote.run(["boot", str(tiny_guest("spin"))], 0.2))  # and no --timeout
    assert answer["status"] == 128 + signal.SIGKILL
    assert time.monotonic() - began < LIMIT
