"""Parts of the tests, run together: python -m tests PART..."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import TESTS

# Two parts that need nothing of the host.
MAKEFILE = r"""
lint:
	@echo linted
debian13:
	@mkdir -p $(CORRAL_RESULTS)/$@
	@echo '<a><testcase classname="t" name="one"/></a>' > $(CORRAL_RESULTS)/$@/unit.xml
	@echo a finding; exit 3
"""


def run(folder: Path, *parts: str, results: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In a folder with a Makefile of its own; nothing of a run that this test is a part of reaches it."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CORRAL_RESULTS", "MAKEFLAGS")}
    if results is not None:
        environment["CORRAL_RESULTS"] = str(results)
    (folder / "Makefile").write_text(MAKEFILE)
    script = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('tests', run_name='__main__')"
    command = [sys.executable, "-c", script, str(TESTS.parent), *parts]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_part_that_fails_fails_the_run_and_the_others_run(tmp_path: Path) -> None:
    done = run(tmp_path, "debian13", "lint")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert "linted" in lines
    assert "a finding" in lines
    rows = [line.split() for line in lines]
    assert [row[:1] + row[2:] for row in rows[-8:] if row and row[0] in ("debian13", "lint")] == [
        ["debian13", "failed", "1", "0", "0", "0"],
        ["lint", "ok"],
    ]
    assert " 1 passed, 1 error in " in lines[-1]


def test_all_is_well(tmp_path: Path) -> None:
    done = run(tmp_path, "lint")
    assert done.returncode == 0, done.stderr
    assert " no tests ran in " in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("folder", ["results", "results/of/today"])
def test_what_was_said_stays_in_a_folder_that_is_named(folder: str, tmp_path: Path) -> None:
    assert run(tmp_path, "lint", results=tmp_path / folder).returncode == 0
    assert (tmp_path / folder / "lint.log").read_text() == "linted\n"
