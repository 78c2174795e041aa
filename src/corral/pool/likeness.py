"""What a process of the pool has in common with the program that asks it, or leaves the command to that.

The words, the environment, the folder, the umask, ignored signals and the standard descriptors are handed over. All
else that a command takes from its process has to be the same: who it is and what it may, its limits, its CPUs, its
namespaces, and what Python reads at its start.
"""

from __future__ import annotations

import os

from corral.native import SHIM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LINES = (
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    *("Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed"),
)  # of /proc/PID/status
_NAMESPACES = ("mnt", "net", "pid", "user", "ipc", "uts", "cgroup", "time")
_LOCALE = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES")

Likeness = dict[str, object]


def of_process(pid: int) -> Likeness:
    """By the names of what it may differ in. Raises OSError for one that may not be looked at, or has ended."""
    folder = f"/proc/{pid}"
    found: Likeness = {}
    for line in _read(f"{folder}/status").splitlines():
        name, _, value = line.partition(":\t")
        if name in _LINES:
            found[name] = value
    found["limits"] = _read(f"{folder}/limits")
    for name in _NAMESPACES:
        path = f"{folder}/ns/{name}"
        found[f"{name} namespace"] = os.readlink(path) if name != "time" or os.path.lexists(path) else ""
    root = os.stat(f"{folder}/root")
    found["root folder"] = root.st_dev, root.st_ino
    found["nice"] = os.getpriority(os.PRIO_PROCESS, pid)
    return found


def of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What Python itself reads of it."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON") or name in _LOCALE}


def of_program() -> tuple[int, ...]:
    """Changes when another Corral is installed."""
    one = os.stat(SHIM)
    return one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns


def difference(ours: Likeness, theirs: Likeness) -> str:
    """The name of the first thing that is not the same; "": there is none."""
    return next((name for name in ours if ours[name] != theirs.get(name)), "")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
