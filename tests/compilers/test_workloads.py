"""The workloads' programs under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from corral.compare import programs
from tests.unit.compare.test_workloads import METRICS, check

FLAGS = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fsanitize=address,undefined"]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_program(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    source = programs.folder() / f"{name}.c"
    subprocess.run(["gcc", *FLAGS, str(source), "-o", str(program), "-lm"], check=True)
    check(name, program, tmp_path)
