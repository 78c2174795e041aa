"""The process that waits beside the VMM: it starts Python when it is asked, and removes at the end what it was told."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from corral.cli import jail as jails
from corral.errors import HostError
from corral.jail import clerk as clerks
from corral.jail.clerk import Clerk

MODULE = "tests.support.clerk_echo"


def ended(pid: int) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


def close(clerk: Clerk) -> None:
    os.close(clerk._to)
    os.close(clerk._from)


def test_it_answers_what_it_is_asked_and_knows_what_it_was_told() -> None:
    clerk = Clerk(MODULE)
    clerk.tell("kernel", "words", "")
    assert clerk.ask(b"one", b"two") == [b"kernel", b"words", b"", b"one", b"two"]
    close(clerk)
    assert ended(clerk.pid)


def test_it_ends_with_the_vmm_and_removes_what_it_was_told(tmp_path: Path) -> None:
    folder, file, full = tmp_path / "folder", tmp_path / "a name\nof two lines", tmp_path / "full"
    folder.mkdir()
    file.touch()
    full.mkdir()
    (full / "file").touch()
    clerk = Clerk(MODULE)
    for path in (folder, file, full, tmp_path / "none"):
        clerk.removes(str(path))
    clerk.tell("", "", "")
    assert file.exists()
    close(clerk)
    assert ended(clerk.pid)
    os.waitpid(clerk.pid, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_one_that_is_missing_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clerks, "PROGRAM", "/nowhere/clerk")
    with pytest.raises(HostError, match=r"cannot start /nowhere/clerk.*No such file"):
        Clerk(MODULE).tell("", "", "")


def test_it_has_let_go_of_the_vmms_locks_when_that_ends_before_there_is_a_guest() -> None:
    jail = jails.Jail("on", ())
    with jails.Settled(jail):
        clerk = jail.clerk = Clerk(MODULE)
    # A program of its own: what it was forked with, and closes by that, is closed.
    assert os.path.samefile(f"/proc/{clerk._pid}/exe", clerks.PROGRAM)
    clerk.tell("", "", "")
    close(clerk)
    assert ended(clerk.pid)
