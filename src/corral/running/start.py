"""Starts a guest in the background: a process of its own, by the command line that it would have in front."""

from __future__ import annotations

import os
import sys

from corral.errors import GuestError, HostError
from corral.running import place
from corral.running.named import READY, VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

MOST_SAID = 65536  # bytes of what a process said that could not start


def start(
    name: str, words: list[str], lifeline: int | None = None, show: Callable[[str], object] = print
) -> subprocess.Popen[bytes]:
    """Returns its process when the guest `name` runs, by `corral boot` with these words. It is on its own then; or ends
    with `lifeline`, a descriptor, when the other end of that is closed. Raises GuestError where it could not start,
    with what it said; lines that it said although it runs go to `show`."""
    import subprocess

    place.base()
    folder = place.folder(name)
    os.makedirs(folder, 0o700, exist_ok=True)
    said = os.path.join(folder, place.SAID)
    ready, theirs = os.pipe()
    given = [theirs] if lifeline is None else [theirs, lifeline]
    environment = os.environ | {VARIABLE: ",".join(map(str, given))}
    command = [sys.executable, "-P", "-m", "corral", "boot", *words]
    # Beside what another of that name has said: which of the two it is shows when it takes the name.
    fd = os.open(f"{said}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600)
    try:
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
        answer = os.read(ready, len(READY))
        with open(f"{said}.{os.getpid()}", encoding="utf-8", errors="replace") as file:
            lines = file.read(MOST_SAID).strip().splitlines()
        if answer == READY:
            os.replace(f"{said}.{os.getpid()}", said)
            for line in lines:
                show(line)
            return process
        status = process.wait()
        os.unlink(f"{said}.{os.getpid()}")
        raise _Ended(status, lines)
    except OSError as error:
        raise HostError(f"cannot start the guest's process: {error.strerror}") from error
    finally:
        os.close(ready)


class _Ended(GuestError):
    """What the process ended with, and what it said at last."""

    def __init__(self, status: int, lines: list[str]) -> None:
        self.exit_status = status if status > 0 else 4
        last = lines[-1].removeprefix("corral: ") if lines else f"its process ended with status {status}"
        super().__init__(last)
