"""Which clang fuzzes, and what it compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import debian
from tests.fuzz import __main__ as fuzz
from tests.fuzz import clang, native


def test_newer_versions_come_first() -> None:
    names = ["clang-9", "clang", "clang-format-19", "clang++-19", "clang-14", "clang-19", "clang-19"]
    assert clang.newest_first(names) == ["clang-19", "clang-14", "clang-9", "clang"]


def test_the_newest_that_links_libfuzzer_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, status in (("clang-22", 1), ("clang-19", 0), ("clang-14", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert clang.find() == "clang-19"
    assert clang.tool("clang-19", "cov") == "llvm-cov-19"


def test_without_one_fuzzing_fails_and_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(packages: list[str], what_for: str) -> None:
        raise HostError(f"{what_for} needs {' '.join(packages)}")

    monkeypatch.setattr(clang, "find", lambda: None)
    monkeypatch.setattr(debian, "dependency", lambda package, prefix: "clang-19")
    monkeypatch.setattr(debian, "require_installed", refuse)
    monkeypatch.setattr("sys.argv", ["fuzz"])
    assert fuzz.main() == 3
    told = capsys.readouterr().err
    assert told == "fuzz: nothing is fuzzed: fuzzing needs clang-19 libclang-rt-19-dev llvm-19\n"


@pytest.mark.parametrize("name", native.HARNESSES)
def test_a_harness_links_with_the_files_that_it_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.build(native.HARNESSES[name], "gcc", "linked", ["-shared", "-fPIC", "-O0", "-Wl,-z,defs"])
