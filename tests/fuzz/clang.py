"""The clang that fuzzes: the newest that is here with libFuzzer, or the distribution's."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from corral.errors import HostError
from corral.guests import debian

FUZZER = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
_NAME = re.compile(r"clang(-\d+)?")
_PROBE = "int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size) { return data[size - 1] & 0; }"


def get() -> str:
    """Its name, like "clang-19". Installs the distribution's when root; raises HostError naming what to install."""
    found = find()
    if found is None:
        debian.require_installed(packages(), "fuzzing")
        found = find()
    if found is None:
        raise HostError(f"no clang on this host links libFuzzer, with {' '.join(packages())} installed")
    return found


def find() -> str | None:
    """The newest one in the PATH that links libFuzzer; clang-19 is newer than clang, which may be any."""
    return next((name for name in newest_first(_programs()) if _links_libfuzzer(name)), None)


def newest_first(names: list[str]) -> list[str]:
    """The clangs among names of programs."""
    clangs = {name for name in names if _NAME.fullmatch(name)}
    return sorted(clangs, key=lambda name: int(name.partition("-")[2] or 0), reverse=True)


def packages() -> list[str]:
    """What to install: the distribution's version of clang, libFuzzer and the tools that tell of coverage."""
    compiler = debian.dependency("clang", "clang-")
    version = compiler.removeprefix("clang-")
    return [compiler, f"libclang-rt-{version}-dev", f"llvm-{version}"]


def tool(clang: str, name: str) -> str:
    """A tool of LLVM of the same version: llvm-cov-19 of clang-19."""
    return clang.replace("clang", f"llvm-{name}")


def _programs() -> list[str]:
    return [name for folder in os.get_exec_path() if os.path.isdir(folder) for name in os.listdir(folder)]


def _links_libfuzzer(clang: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "probe.c").write_text(_PROBE)
        command = [clang, *FUZZER, "probe.c", "-o", "probe"]
        return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
