"""Corral as its users have it: installed from this checkout with pip, compiled, in a venv of its own in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from corral.guests import cache, sources

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """This process's, without what a developer may have set to keep Python from caching bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def corral() -> str:
    """The path of the `corral` command; installs it when this source is not installed yet."""
    files = [
        ROOT / "pyproject.toml",
        *(path for folder in ("src", "csrc", "guests", "benchmarks/workloads") for path in (ROOT / folder).rglob("*")),
    ]
    contents = [path.read_bytes() for path in sorted(files) if path.is_file() and "__pycache__" not in path.parts]
    target = cache.folder("installed", sources.digest(*contents))
    command = os.path.join(target, "bin", "corral")
    if not os.path.exists(command):
        # Made in place: a venv cannot be moved. Only the finished one has the command.
        subprocess.run([sys.executable, "-m", "venv", "--clear", target], check=True, env=environment())
        pip = [os.path.join(target, "bin", "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", str(ROOT)], check=True, env=environment())
    return command
