"""The workloads' programs: C files of benchmarks/workloads, each made a static binary in the user's cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from corral.errors import ConfigError, HostError
from corral.guests import cache, sources

FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread"]


def folder() -> Path:
    """The sources: benchmarks/workloads of the checkout, or their copies in an installed Corral."""
    here = Path(__file__).resolve().parent
    installed = here / "data" / "workloads"
    return installed if installed.is_dir() else here.parents[2] / "benchmarks" / "workloads"


def names() -> list[str]:
    return sorted(path.stem for path in folder().glob("*.c"))


def binary(name: str) -> Path:
    """Built when it is not in the cache. Raises ConfigError for a name that is none, HostError without a compiler."""
    if name not in names():
        raise ConfigError(f"there is no workload {name!r}; there are {', '.join(names())}")
    source = folder() / f"{name}.c"
    shared = [path.read_bytes() for path in sorted(folder().glob("*.h"))]
    key = sources.digest(source.read_bytes(), *shared, " ".join(FLAGS).encode())
    target = cache.folder("workloads", f"{name}_{key}")
    with cache.making(target) as unfinished:
        if unfinished:
            _compile(source, Path(unfinished) / name)
    return Path(target) / name


def _compile(source: Path, output: Path) -> None:
    command = ["gcc", *FLAGS, str(source), "-o", str(output), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    except FileNotFoundError as error:
        raise HostError("no gcc to build the workloads; install it: apt-get install gcc") from error
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise HostError(f"gcc cannot build the workload {source.stem}: {why}")
