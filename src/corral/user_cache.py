"""Where on this host's disk the user's cache is.

What is in there is run, and written to by names that are known. So it is used only where no other user could have put
something: as root with somebody's HOME, they could.
"""

from __future__ import annotations

import os
import stat

from corral.errors import HostError

_CURE = "set XDG_CACHE_HOME to a folder of yours"
_trusted: set[str] = set()  # what was looked at, and how it was asked for


def folder(*parts: str) -> str:
    """$XDG_CACHE_HOME/corral, or ~/.cache/corral, and below it `parts`; nothing is created. Raises HostError where it
    cannot be, or where another user could have put something."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not base.startswith("/"):  # as of a user without a home: another folder wherever one is
        raise HostError(f"the cache would be in {base!r}, no path from /; {_CURE}")
    own = os.path.join(base, "corral")
    if own not in _trusted:
        _require_trusted(own)
        _trusted.add(own)
    return os.path.join(own, *parts)


def _require_trusted(path: str) -> None:
    """The folder, as far as there is one, and those that it is in: who owns one can put another in its place."""
    friends = (0, os.geteuid())
    part = os.path.realpath(path)
    is_own = True
    while True:
        try:
            about = os.stat(part)
        except OSError:  # not there yet, or not to be seen: who makes it will tell
            about = None
        if about is not None:
            if about.st_uid not in friends and about.st_uid not in _overflow_users():
                raise HostError(f"the cache {path!r} is not used: {part!r} belongs to {_name(about.st_uid)}; {_CURE}")
            if about.st_mode & stat.S_IWOTH and (is_own or not about.st_mode & stat.S_ISVTX):
                raise HostError(f"the cache {path!r} is not used: every user may write to {part!r}; {_CURE}")
        if part == "/":
            return
        part, is_own = os.path.dirname(part), False


def _overflow_users() -> set[int]:
    """In a user namespace: the number that stands for all users who are not in it, as for the owner of / there."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            if file.read().split() == [b"0", b"0", b"4294967295"]:
                return set()
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return {int(file.read())}
    except (OSError, ValueError):
        return set()


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
