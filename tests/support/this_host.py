"""This machine, in the words of an emulated host (tests/nested/host.py): tests that serve both run on either."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.nested.host import Completed


class ThisHost:
    """`own` is a folder for what a test writes."""

    def __init__(self, own: Path) -> None:
        self.own = str(own)

    def run(self, argv: list[str], timeout: float = 60.0) -> Completed:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        return Completed(done.returncode, done.stdout, done.stderr)
