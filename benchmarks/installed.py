"""Corral as its users have it: installed from this checkout with pip, compiled, in a venv of its own in the cache.

By the distribution's Python where that will do, since peers are the distribution's as well: one that was built from
source takes twice as long to start in the nested host.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from corral.guests import cache as folders
from corral.guests import sources

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, str]:
    """This process's, without what a developer may have set to keep Python from caching bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


DISTRIBUTION = "/usr/bin/python3"
_WILL_DO = """
import ensurepip, os, sys, sysconfig
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
"""


@cache
def python() -> str:
    """The distribution's Python, if it is new enough, makes venvs and compiles; else the one that runs this."""
    try:
        done = subprocess.run([DISTRIBUTION, "-c", _WILL_DO], capture_output=True, env=environment())
    except OSError:
        return sys.executable
    return sys.executable if done.returncode else DISTRIBUTION


def corral() -> str:
    """The path of the `corral` command; installs it when this source is not installed yet."""
    files = [
        ROOT / "pyproject.toml",
        *(path for folder in ("src", "csrc", "guests", "benchmarks/workloads") for path in (ROOT / folder).rglob("*")),
    ]
    contents = [path.read_bytes() for path in sorted(files) if path.is_file() and "__pycache__" not in path.parts]
    target = folders.folder("installed", sources.digest(python().encode(), *contents))
    command = os.path.join(target, "bin", "corral")
    if not os.path.exists(command):
        # Made in place: a venv cannot be moved. Only the finished one has the command.
        subprocess.run([python(), "-m", "venv", "--clear", target], check=True, env=environment())
        pip = [os.path.join(target, "bin", "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", str(ROOT)], check=True, env=environment())
    return command
