"""This host as a node of a Ray cluster that runs guests: begun by `corral fleet up`, ended by `corral fleet stop`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from corral import user_runtime
from corral.errors import ConfigError, HostError
from corral.ray import versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = "corral-fleet"  # of this user: what the node is known by
GUESTS = "corral_guests"  # Ray's name of the resource: how many guests a node may have at once
PER_CPU = 8  # guests, where nothing is said
_GUEST_MEMORY = 256 << 20  # bytes of the host's memory for each of them, at least
OBJECT_STORE = 80 << 20  # bytes; what goes through it is small
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
PATIENCE = 90.0  # seconds until the node is there
_ENDS = 20.0  # seconds that it takes to end
_LOOK = 0.2
_UP = "Ray runtime started"


def room() -> int:
    """How many guests this host is offered for where nothing is said."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(PER_CPU * len(os.sched_getaffinity(0)), memory // _GUEST_MEMORY))


def own_address() -> str | None:
    """Of the cluster whose node this host is by begin(); None: it is none."""
    return str(_read()["address"]) if _running() is not None else None


def begin(address: str | None, guests: int | None) -> str:
    """Begins a cluster on this host, or joins the one at `address`; returns the address. The node stays until end().
    Raises HostError, ConfigError."""
    versions.check()
    if _running() is not None:
        raise ConfigError("this host is a node already; corral fleet stop --node ends it")
    folder = user_runtime.folder(FOLDER)
    resources = json.dumps({GUESTS: guests or room()})
    words = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    words += ["--resources", resources, f"--object-store-memory={OBJECT_STORE}", "--include-dashboard=false"]
    words += ["--head", "--port=0"] if address is None else [f"--address={address}"]
    log = os.path.join(folder, "node.log")
    with open(log, "wb") as said:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=os.environ | QUIET,
        )
    _await(process, log)
    at = address or _address(log)
    with open(_about(), "w", encoding="utf-8") as file:
        json.dump({"pid": process.pid, "began": _began(process.pid), "address": at}, file)
    return at


def end() -> bool:
    """Ends what begin() began on this host, its guests too; False: there is none. Raises HostError."""
    pid = _running()
    if pid is None:
        return False
    ended = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(ended, signal.SIGTERM)
        import select

        if not select.select([ended], [], [], _ENDS)[0]:
            raise HostError(f"the node, process {pid}, does not end; kill it")
    finally:
        os.close(ended)
    os.unlink(_about())
    return True


def _await(process: subprocess.Popen[bytes], log: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        text = _said(log)
        if _UP in text:
            return
        status = process.poll()
        if status is None and time.monotonic() < until:
            time.sleep(_LOOK)
            continue
        if status is None:
            process.terminate()
        lines = [line for line in text.strip().splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "it said nothing"
        raise HostError(f"Ray did not start: {last}; {log} has all that it said")


def _said(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read(1 << 20)


def _address(log: str) -> str:
    """Which others join, as Ray tells it."""
    import re

    found = re.search(r"--address='([^']+)'", _said(log))
    if not found:
        raise HostError(f"Ray started and told no address; see {log}")
    return found[1]


def _about() -> str:
    return os.path.join(user_runtime.folder(FOLDER), "node.json")


def _read() -> dict[str, Any]:
    with open(_about(), encoding="utf-8") as file:
        return dict(json.load(file))


def _running() -> int | None:
    """The process of the node."""
    try:
        about = _read()
        pid = int(about["pid"])
        return pid if _began(pid) == about["began"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _began(pid: int) -> str:
    """When a process began (proc(5), stat, field 22): its number may be given again."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]
