"""Several processes of `corral fuzz`, and those of afl-fuzz, which end with this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from corral.cli.fuzz_session import FOUND, folder
from corral.errors import ConfigError, HostError
from corral.fuzz import afl
from corral.fuzz.corpus import FIRST
from corral.fuzz.findings import is_one
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.cli.fuzz_request import FuzzRequest

_ENDS = 5.0  # seconds that a process has to end in
_LOOK = 0.05


def several(wanted: FuzzRequest, words: list[str], jobs: int) -> int:
    """The same command for each, alone and with a seed of its own. `words` are those of this one."""
    folder(wanted.corpus, "corpus")
    folder(wanted.crashes, "crashes")
    commands = [
        [sys.executable, "-m", "corral", "fuzz", *words, "--jobs", "1", "--seed", str(wanted.seed + job)]
        for job in range(jobs)
    ]
    statuses = _wait(commands, os.environ)
    return next((status for status in statuses if status not in (0, FOUND)), max(statuses))


def afl_fuzz(wanted: FuzzRequest, words: list[str], jobs: int) -> int:
    """afl-fuzz, whose own folder is `afl` in that of the crashes; what it finds is in both."""
    folder(wanted.corpus, "corpus")
    folder(wanted.crashes, "crashes")
    try:
        if not any(os.scandir(wanted.corpus)):
            with open(os.path.join(wanted.corpus, "first"), "wb") as file:
                file.write(FIRST)
    except OSError as error:
        raise ConfigError(f"--corpus {wanted.corpus!r}: {error.strerror}; name a folder") from None
    output = os.path.join(wanted.crashes, "afl")
    target = [sys.executable, "-m", "corral", "fuzz", *words]
    milliseconds = round(wanted.timeout * 1000) + afl.RECOVERY
    names = [""] if jobs == 1 else ["-M 1", *(f"-S {job}" for job in range(2, jobs + 1))]
    commands = [afl.command(target, wanted.corpus, output, milliseconds, wanted.time, name) for name in names]
    statuses = _wait(commands, {**os.environ, **afl.ENVIRONMENT, "AFL_HANG_TMOUT": str(milliseconds)})
    if failed := next((status for status in statuses if status), 0):
        raise HostError(f"afl-fuzz ended with status {failed}; what it said is above")
    try:
        found = any(is_one(name) for name in os.listdir(wanted.crashes))
    except OSError as error:
        raise HostError(f"cannot read {wanted.crashes!r}: {error.strerror}") from None
    return FOUND if found else 0


def _wait(commands: Sequence[list[str]], environment: Mapping[str, str]) -> list[int]:
    """Runs them beside each other; the first that fails ends the others. Their exit statuses."""
    processes: list[subprocess.Popen[bytes]] = []
    parent = os.getpid()
    try:
        for command in commands:
            processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    preexec_fn=lambda: lib.corral_end_with_parent(parent),
                )
            )
        while any(one.poll() is None for one in processes):
            if any(one.returncode not in (None, 0, FOUND) for one in processes):
                break
            time.sleep(_LOOK)
    except FileNotFoundError:
        raise HostError("no afl-fuzz here; install it: apt-get install afl++, or use --engine corral") from None
    except OSError as error:
        raise HostError(f"cannot start a job: {error.strerror}") from None
    finally:
        _end(processes)
    return [one.returncode for one in processes]


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for one in processes:
        if one.poll() is None:
            one.terminate()
    until = time.monotonic() + _ENDS
    for one in processes:
        try:
            one.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()
