"""What a command costs: its status, what it says, CPU seconds and MiB at most."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass

CORRAL = (sys.executable, "-m", "corral")
# A process of its own starts it: what this one has resident would count as the command's until its exec.
_STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(int(sys.argv[1]), "w") as told:
    print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, file=told)
"""


@dataclass
class Cost:
    status: int
    output: str  # and errors
    seconds: float  # of CPU time
    mebibytes: float  # resident at a time


def cost(*command: str, timeout: float = 120) -> Cost:
    """`command` by its whole path."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        starter = [sys.executable, "-c", _STARTER, str(told.fileno()), *command]
        options = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, "pass_fds": [told.fileno()]}
        subprocess.run(starter, check=True, timeout=timeout, **options)  # type: ignore[call-overload]
        said.seek(0)
        told.seek(0)
        status, seconds, mebibytes = told.read().split()
        return Cost(int(status), said.read().decode(errors="replace"), float(seconds), float(mebibytes))
