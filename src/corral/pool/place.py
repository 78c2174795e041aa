"""Where a pool is found: a socket for csrc/client, and a file beside it that its keeper holds a lock on.

Each installation has a pool of its own, for its processes run the code that they were started with: the socket's name
has the folder of `corral-client` in it, as FNV-1a of 64 bits.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys

from corral.errors import HostError
from corral.running import place
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLIENT = "corral-client"
_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3


@record(frozen=True)
class PoolPlace:
    """`client`: the path of the installed program; `socket`: what it connects to; `lock`: the keeper's file."""

    client: str
    socket: str
    lock: str


def find() -> PoolPlace:
    """This installation's. Raises HostError where it has no `corral-client`."""
    import sysconfig

    folders = [os.path.dirname(sys.argv[0]), sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    found = [path for path in (os.path.join(os.path.abspath(one), CLIENT) for one in folders) if os.path.isfile(path)]
    if not found:
        raise HostError(f"there is no {CLIENT} beside corral; install Corral with pip, or run: make venv")
    return at(found[0])


def at(client: str) -> PoolPlace:
    """That of this `corral-client`."""
    client = os.path.realpath(client)
    path = os.path.join(place.base(), f".pool-{key(os.path.dirname(client)):016x}")
    return PoolPlace(client, path, f"{path}.lock")


def key(folder: str) -> int:
    """FNV-1a of a path, 64 bits, as csrc/client has it."""
    value = _OFFSET
    for byte in os.fsencode(folder):
        value = (value ^ byte) * _PRIME & 0xFFFFFFFFFFFFFFFF
    return value


def facts(at: PoolPlace) -> dict[str, Any]:
    """What the keeper tells of its pool; {}: none runs."""
    try:
        fd = os.open(at.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            told = json.loads(os.pread(fd, 4096, 0))
        except ValueError:  # it begins, or writes it at this moment
            told = {}
        return told if isinstance(told, dict) and isinstance(told.get("pid"), int) else {}
    finally:
        os.close(fd)
    return {}
