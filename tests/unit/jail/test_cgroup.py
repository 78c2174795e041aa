"""Limits by a control group: where one is made, and what is written there. The folders are ones of the test's own; the
host's kernel would fill a group with files, which `Kernel` does here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cli import limits
from corral.cli.boot import COMMAND
from corral.cli.options import parse
from corral.errors import ConfigError
from corral.jail import cgroup
from corral.jail.cgroup import ControlGroup, Limits, Unlimited

ALL = "cpu io memory"


class Kernel:
    """Control groups as folders, of a host where /user is delegated and this process is in /user/scope."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.mounts, self.own = root / "mountinfo", root / "cgroup"
        self.mounts.write_text(f"30 20 0:26 / {root / 'fs'} rw - cgroup2 cgroup2 rw\n")
        self.own.write_text("1:cpu:/x\n0::/user/scope\n")
        for name in ("", "user", "user/scope"):
            self.make(root / "fs" / name)
        make, remove = os.mkdir, os.rmdir
        monkeypatch.setattr(os, "mkdir", lambda path: (make(path), self.fill(Path(path))))
        monkeypatch.setattr(os, "rmdir", lambda path: (self.empty(Path(path)), remove(path)))

    def make(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.fill(path)

    def fill(self, path: Path) -> None:
        for name in ("cgroup.procs", "cgroup.subtree_control", "cpu.max", "memory.max", "io.max"):
            (path / name).write_text("")
        (path / "cgroup.controllers").write_text(ALL)

    def empty(self, path: Path) -> None:
        for file in path.iterdir():
            file.unlink()

    def hands_on(self, name: str, controllers: str = ALL) -> None:
        (self.root / "fs" / name / "cgroup.subtree_control").write_text(controllers)

    def group(self, limits: Limits) -> ControlGroup:
        return ControlGroup(limits, str(self.mounts), str(self.own))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(cgroup, "_LOOKS", 1)
    return Kernel(tmp_path, monkeypatch)


def test_a_group_beside_one_s_own(kernel: Kernel) -> None:
    kernel.hands_on("user")
    group = kernel.group(Limits(cpu=1.5, memory=1 << 30, io=("8:0 rbps=1000",)))
    path = Path(group.path)
    assert path == kernel.root / "fs/user" / f"corral-{os.getpid()}"
    found = {name: (path / name).read_text() for name in ("cpu.max", "memory.max", "io.max", "cgroup.procs")}
    assert found == {
        "cpu.max": "150000 100000",
        "memory.max": "1073741824",
        "io.max": "8:0 rbps=1000",
        "cgroup.procs": str(os.getpid()),
    }
    group.keep_out(4711)
    assert (kernel.root / "fs/user/scope/cgroup.procs").read_text() == "4711"
    group.leave()
    assert not path.exists()
    assert (kernel.root / "fs/user/scope/cgroup.procs").read_text().startswith(str(os.getpid()))


def test_one_below_where_the_parent_hands_nothing_on(kernel: Kernel) -> None:
    group = kernel.group(Limits(memory=1 << 30))
    assert Path(group.path).parent == kernel.root / "fs/user/scope"
    assert (kernel.root / "fs/user/scope/cgroup.subtree_control").read_text() == "+memory"


def test_a_host_without_says_why(kernel: Kernel) -> None:
    (kernel.root / "fs/user/scope/cgroup.controllers").write_text("pids")
    (kernel.root / "fs/user/scope/cgroup.subtree_control").unlink()
    (kernel.root / "fs/user/scope/cgroup.subtree_control").symlink_to("/nowhere/x")  # cannot be written
    with pytest.raises(Unlimited, match="has no controller cpu, memory"):
        kernel.group(Limits(cpu=1, memory=1 << 30))
    assert [path.name for path in (kernel.root / "fs/user").iterdir() if path.name.startswith("corral")] == []
    kernel.own.write_text("1:cpu:/x\n")
    with pytest.raises(Unlimited, match="version 2"):
        kernel.group(Limits(cpu=1))


def test_a_guest_without_its_limits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise Unlimited("there is no group")

    monkeypatch.setattr(limits, "ControlGroup", refuse)
    arguments = parse(COMMAND, ["--limit-cpu", "2"])
    assert arguments
    limited = limits.wanted(arguments)
    assert limited
    notices: list[str] = []
    with limited.enter(notices):
        pass
    assert notices == ["no limits, for there is no group"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit-cpu", "none"], "is no number of CPUs"),
        (["--limit-cpu", "0"], "is no number of CPUs"),
        (["--limit-cpu", "nan"], "is no number of CPUs"),
        (["--limit-memory", "1M"], "at least 16M"),
        (["--limit-io", "/nowhere,rbps=1M"], "No such file"),
        (["--limit-io", "/dev/null,rbps=1M"], "on no block device"),
        (["--limit-io", "/dev/null"], "has no limit"),
        (["--limit-io", "/dev/null,speed=3"], "'speed=3' is none of"),
        (["--limit-io", "/dev/null,riops=-3"], "no number of requests"),
    ],
)
def test_limits_that_make_no_sense(words: list[str], said: str) -> None:
    arguments = parse(COMMAND, words)
    assert arguments
    with pytest.raises(ConfigError, match=said):
        limits.wanted(arguments)
