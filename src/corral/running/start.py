"""Starts a guest in the background: a process of its own, by the command line that it would have in front."""

from __future__ import annotations

import os
import sys
import time

from corral.core import waiting
from corral.errors import GuestError, HostError
from corral.running import place
from corral.running.named import READY, VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import TextIO

MOST_SAID = 65536  # bytes of what a process says that are read at a time
LOOK = 0.2  # seconds between two looks at what it says: while it fetches and builds there is progress


def start(
    name: str, words: list[str], lifeline: int | None = None, show: Callable[[str], object] = print
) -> subprocess.Popen[bytes]:
    """Returns its process when the guest `name` runs, by `corral` with these words, the first of which is a command's.
    It is on its own then; or ends with `lifeline`, a descriptor, when its other end is closed. Raises GuestError where
    it could not start, with what it said; lines that it said although it runs go to `show`."""
    import subprocess

    place.base()
    folder = place.folder(name)
    os.makedirs(folder, 0o700, exist_ok=True)
    # Beside what a running guest with the same name has said: only taking the name tells whether there is one.
    said = os.path.join(folder, f"{place.SAID}.{os.getpid()}")
    ready, theirs = os.pipe()
    given = [theirs] if lifeline is None else [theirs, lifeline]
    environment = os.environ | {VARIABLE: ",".join(map(str, given))}
    command = [sys.executable, "-P", "-m", "corral", *words]
    try:
        fd = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
                pass_fds=given,
                env=environment,
            )
        finally:
            os.close(theirs)
            os.close(fd)
        try:
            with open(said, encoding="utf-8", errors="replace") as file:
                lines = _await(ready, file, show)
        except BaseException:
            process.kill()
            process.wait()
            os.unlink(said)
            raise
        if lines is None:
            os.replace(said, os.path.join(folder, place.SAID))
            return process
        status = process.wait()
        os.unlink(said)
        place.forget(name)
        raise _Ended(status, lines)
    except OSError as error:
        raise HostError(f"cannot start the guest's process: {error.strerror}") from error
    finally:
        os.close(ready)


def _await(ready: int, said: TextIO, show: Callable[[str], object]) -> list[str] | None:
    """Shows what it says until the guest runs: None; or until the process ends: its last lines, which are not shown."""
    kept: list[str] = []
    over = False
    while not over:
        over = bool(waiting.wait_for({ready: waiting.READABLE}, time.monotonic() + LOOK))
        kept += said.read(MOST_SAID).splitlines()
        while len(kept) > 1 and not over:  # the last may be why it ends
            show(kept.pop(0))
    if os.read(ready, len(READY)) != READY:
        return kept
    for line in kept:
        show(line)
    return None


class _Ended(GuestError):
    """What the process ended with, and what it said at last."""

    def __init__(self, status: int, lines: list[str]) -> None:
        self.exit_status = status if status > 0 else 4
        last = lines[-1].removeprefix("corral: ") if lines else f"its process ended with status {status}"
        super().__init__(last)
