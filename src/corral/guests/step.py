"""A step of a build: a program of the host's, watched while it runs."""

from __future__ import annotations

import os

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of a make that runs Corral: a kernel's own takes them for its user's


_COMPLAINTS = ("error: ", "Error: ", "ERROR: ", "No rule to make")


def run(command: list[str], what: str, progress: Callable[[int, str], None] = lambda lines, line: None) -> None:
    """Runs it in a process group of its own, so that an interrupt ends all of it. `progress` gets each line of its
    output, and how many there were before.

    Raises HostError with the line that tells what was wrong.
    """
    import signal
    import subprocess

    environment = {name: value for name, value in os.environ.items() if name not in _MAKE}
    environment |= {"LC_ALL": "C", "KBUILD_BUILD_USER": "corral", "KBUILD_BUILD_HOST": "corral"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    tail: list[str] = []
    complaint = ""  # the first of a tool; what make says of it comes later, and other jobs of it between
    assert process.stdout is not None
    try:
        for count, line in enumerate(process.stdout):
            tail = [*tail[-20:], line.strip()]
            if not complaint and any(word in line for word in _COMPLAINTS):
                complaint = line.strip()
            progress(count, line.strip())
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if status:
        if not complaint:
            last = tail[-1] if tail else "no output"
            complaint = next((line for line in tail if "rror" in line or line.startswith("E: ")), last)
        raise HostError(f"{what} failed: {complaint}")
