"""Limits of a guest by a control group of its own, where this user has one delegated: cgroup v2 (Linux:
Documentation/admin-guide/cgroup-v2.rst).

A group with processes can give none of its controllers to groups below it. So the guest's group is made beside this
process's own, where its parent hands the controllers on and is this user's, as in `systemd-run --user --scope`; or
below it, where this process is alone there.
"""

from __future__ import annotations

import os
import time

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PERIOD = 100_000  # us, of cpu.max
_LOOKS, _GLANCE = 100, 0.01  # for a group to be empty, and seconds between


class Unlimited(Exception):
    """This process cannot have the limits; says why."""


@record(frozen=True)
class Limits:
    """`cpu` in CPUs, 0: none; `memory` in bytes, 0: none; `io`: lines of io.max, of block devices."""

    cpu: float = 0.0
    memory: int = 0
    io: tuple[str, ...] = ()

    def settings(self) -> Iterator[tuple[str, str]]:
        """(file, content)."""
        if self.cpu:
            yield "cpu.max", f"{round(self.cpu * _PERIOD)} {_PERIOD}"
        if self.memory:
            yield "memory.max", str(self.memory)
        for line in self.io:
            yield "io.max", line

    @property
    def controllers(self) -> set[str]:
        return {name.partition(".")[0] for name, _ in self.settings()}


class ControlGroup:
    """A group that has this process in it, limited; the threads and processes that it starts too. leave() undoes it.
    Raises Unlimited."""

    def __init__(self, limits: Limits, mounts: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup") -> None:
        self._before = _own_folder(_read(mounts), _read(own))
        self.path = ""
        for place in dict.fromkeys((os.path.dirname(self._before), self._before)):
            if self._make(place, limits):
                return
        raise Unlimited(_reason(self._before, limits.controllers))

    def _make(self, place: str, limits: Limits) -> bool:
        """Whether it could be made there; else all is as it was."""
        path = os.path.join(place, f"corral-{os.getpid()}")
        handed_on = limits.controllers <= set(_read(os.path.join(place, "cgroup.subtree_control")).split())
        if not handed_on and place != self._before:
            return False
        try:
            os.mkdir(path)
        except OSError:
            return False
        try:
            self._move(os.getpid(), path)
            if not handed_on:
                words = " ".join(f"+{name}" for name in sorted(limits.controllers))
                _write(os.path.join(place, "cgroup.subtree_control"), words)
            for name, value in limits.settings():
                _write(os.path.join(path, name), value)
        except OSError:
            self._undo(path)
            return False
        self.path = path
        return True

    def _move(self, pid: int, to: str) -> None:
        _write(os.path.join(to, "cgroup.procs"), str(pid))

    def keep_out(self, pid: int) -> None:
        """A process that this one has started: back to where this one was."""
        self._move(pid, self._before)

    def leave(self) -> None:
        self._undo(self.path)

    def _undo(self, path: str) -> None:
        try:
            self._move(os.getpid(), self._before)
        except OSError:
            pass
        for _ in range(_LOOKS):  # what this process has started may take a moment to end
            try:
                os.rmdir(path)
                return
            except OSError:
                time.sleep(_GLANCE)


def _own_folder(mounts: str, own: str) -> str:
    """Of this process's group. Raises Unlimited."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        root, place = fields.split()[3:5]
        if rest.startswith("cgroup2 ") and path is not None and (path + "/").startswith(root.rstrip("/") + "/"):
            return os.path.normpath(place + "/" + path[len(root.rstrip("/")) :])
    raise Unlimited("this host has no control groups of version 2 mounted")


def _reason(folder: str, wanted: set[str]) -> str:
    lacks = wanted - set(_read(os.path.join(folder, "cgroup.controllers")).split())
    if lacks:
        return f"the control group {folder!r} has no controller {', '.join(sorted(lacks))}"
    return f"none may be made beside or below {folder!r}; try: systemd-run --user --scope -p Delegate=yes corral ..."


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, content: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)
