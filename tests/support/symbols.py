"""Addresses of a tiny guest's labels."""

from __future__ import annotations

import subprocess
from pathlib import Path


def labels(executable: Path) -> dict[str, int]:
    listing = subprocess.run(["nm", str(executable)], capture_output=True, text=True, check=True).stdout
    return {name: int(address, 16) for address, _, name in (line.split() for line in listing.splitlines())}
