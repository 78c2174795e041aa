"""The bundle of bytecode: used when it is there, not believed when it is old, never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import corral

MAIN = """
import sys
from corral.startup import bundle
sys.modules["typing.io"] = object()  # no module, as in some versions of Python
bundle.use()
from corral import config, errors
print(type(config.__loader__).__name__, getattr(errors, "MARK", "-"))
bundle.keep()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    source = Path(corral.__file__).parent
    shutil.copytree(source, tmp_path / "corral", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "corral"


def run(package: Path, *flags: str, prefix: Path | None = None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if prefix:
        environment["PYTHONPYCACHEPREFIX"] = str(prefix)
    command = [sys.executable, *flags, "-c", MAIN]
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def bundle_of(package: Path) -> Path:
    return package / "__pycache__" / f"bundle.{sys.implementation.cache_tag}"


def test_the_first_run_makes_it_and_the_second_uses_it(package: Path) -> None:
    assert run(package) == ["SourceFileLoader", "-"]
    assert bundle_of(package).exists()
    before = bundle_of(package).stat().st_mtime_ns
    assert run(package) == ["Bundle", "-"]
    assert bundle_of(package).stat().st_mtime_ns == before


def test_a_changed_source_is_read_again_and_replaces_what_was_kept(package: Path) -> None:
    run(package)
    with (package / "errors.py").open("a") as file:
        file.write("\nMARK = 'changed'\n")
    assert run(package) == ["Bundle", "changed"]
    assert run(package) == ["Bundle", "changed"]


@pytest.mark.parametrize("content", [b"", b"no bundle", None])
def test_one_that_cannot_be_read_is_made_anew(package: Path, content: bytes | None) -> None:
    run(package)
    whole = bundle_of(package).read_bytes()
    bundle_of(package).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert run(package) == ["SourceFileLoader", "-"]
    assert run(package) == ["Bundle", "-"]


def test_nothing_is_left_behind_where_it_cannot_be_written(package: Path) -> None:
    bundle_of(package).mkdir(parents=True)
    assert run(package) == ["SourceFileLoader", "-"]
    assert [path.name for path in bundle_of(package).parent.glob("bundle*.[0-9]*")] == []


def test_it_lies_where_python_is_told_to_keep_bytecode(package: Path, tmp_path: Path) -> None:
    assert run(package, prefix=tmp_path / "bytecode") == ["SourceFileLoader", "-"]
    assert run(package, prefix=tmp_path / "bytecode") == ["Bundle", "-"]
    assert [path.name for path in (tmp_path / "bytecode").rglob("bundle*") if path.suffix != ".pyc"] == [
        bundle_of(package).name
    ]
    assert not bundle_of(package).exists()


def test_it_stays_out_where_python_keeps_no_bytecode(package: Path) -> None:
    assert run(package, "-B") == ["SourceFileLoader", "-"]
    assert not bundle_of(package).exists()
