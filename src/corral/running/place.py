"""Where guests with a name are known: a folder for each, which only this user may enter.

Who runs the guest holds a lock on the file `lock` there, so that one that was killed is told from one that runs, and
its place is free again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from corral import user_runtime
from corral.core import waiting
from corral.errors import ConfigError, GuestTimeout
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal  # see cli/terminal.py

LOOK = 0.02  # seconds between two looks at one that has not begun
LONGEST = 40  # characters of a name: the path of its sockets has an end
LOCK, ABOUT, STATUS, SAID = "lock", "about.json", "status", "said"
STATUS_SIZE = 8  # bytes: a number and a newline, and zeros; zeros alone: there is none
VSOCK, CONTROL, CONSOLE = "vsock", "control", "console"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def check_name(name: str) -> str:
    """Raises ConfigError for what is no name of a guest."""
    good = 0 < len(name) <= LONGEST and name[0] in _LETTERS and all(one in _LETTERS + "_.-" for one in name)
    if not good:
        raise ConfigError(f"{name!r} is no name of a guest: it has 1 to {LONGEST} letters, digits, _, . and -")
    return name


def base() -> str:
    """The folder of all. It is made when it is not there. Raises HostError for one that others may enter."""
    return user_runtime.folder("corral")


def folder(name: str) -> str:
    return os.path.join(base(), check_name(name))


@record(frozen=True)
class RunningGuest:
    """One that has a name. `runs`: its process is there; else `status` is what that ended with, None: it was killed.
    `about` is what it said of itself when it began."""

    name: str
    folder: str
    runs: bool
    status: int | None
    about: dict[str, Any]

    @property
    def pid(self) -> int:
        """0: not known."""
        value = self.about.get("pid")
        return value if isinstance(value, int) else 0

    def path(self, file: str) -> str:
        return os.path.join(self.folder, file)

    def signal(self, number: int) -> None:
        """Sends its process a signal; does nothing when that has ended."""
        fd = self.process()
        if fd >= 0:
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                pass
            finally:
                os.close(fd)

    def process(self) -> int:
        """A pidfd of the caller's, readable when it has ended; -1: it has."""
        try:
            fd = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError, ValueError):
            return -1
        if not _is_locked(self.folder):  # another process has its number by now
            os.close(fd)
            return -1
        return fd

    def wait(self, until: float | None = None) -> bool:
        """Until it has ended, or time.monotonic() is `until`: False."""
        fd = self.process()
        if fd < 0:
            return True
        try:
            return bool(waiting.wait_for({fd: waiting.READABLE}, until))
        finally:
            os.close(fd)


def every() -> list[RunningGuest]:
    """By name."""
    found = [_look(name) for name in sorted(os.listdir(base()))]
    return [guest for guest in found if guest]


def find(name: str) -> RunningGuest:
    """Also one that has ended. Raises ConfigError where no guest has the name."""
    guest = _look(check_name(name))
    if guest is None:
        others = ", ".join(one.name for one in every() if one.runs)
        raise ConfigError(
            f"there is no guest {name!r}; " + (f"there are {others}" if others else "corral ps lists them")
        )
    return guest


def running(name: str, until: float | None = None) -> RunningGuest:
    """One that has not yet begun, since its kernel is still fetched or built, is waited for until time.monotonic() is
    `until`. Raises ConfigError where no guest with the name runs, GuestTimeout."""
    guest = find(name)
    while until is not None and guest.runs and not guest.about:
        if time.monotonic() >= until:
            raise GuestTimeout(f"the guest {name!r} has not begun yet; corral logs --process {name} has why")
        time.sleep(LOOK)
        guest = find(name)
    if not guest.runs:
        how = "was killed" if guest.status is None else f"has ended with status {guest.status}"
        raise ConfigError(f"the guest {name!r} {how}; corral logs {name} has what it said")
    return guest


def remove(guest: RunningGuest) -> None:
    """What is left of one that has ended."""
    for name in os.listdir(guest.folder):
        os.unlink(os.path.join(guest.folder, name))
    os.rmdir(guest.folder)


def forget(name: str) -> None:
    """What is left of one that never ran."""
    guest = _look(name)
    if guest and not guest.runs and not guest.about:
        remove(guest)


def _look(name: str) -> RunningGuest | None:
    path = os.path.join(base(), name)
    if not os.path.isdir(path):
        return None
    runs = _is_locked(path)
    return RunningGuest(name, path, runs, None if runs else _status(path), _about(path))


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(os.path.join(path, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _about(path: str) -> dict[str, Any]:
    try:
        with open(os.path.join(path, ABOUT), encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _status(path: str) -> int | None:
    try:
        with open(os.path.join(path, STATUS), encoding="ascii") as file:
            return int(file.read().rstrip("\0\n"))
    except (OSError, ValueError):
        return None
