"""What is fuzzed of Python takes its seeds, and reaches what it is about with them."""

from __future__ import annotations

import importlib
import sys
from types import FrameType
from typing import Any

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import native
from tests.fuzz.python import in_functions, load


def test_each_module_is_a_target_and_each_harness_has_its_files() -> None:
    assert {"tar", "symbols", "gdb", "clerk", "snapshot", "kernels", "disks", "blk", "p9", "uart"} <= set(fuzz.TARGETS)
    for name, harness in native.HARNESSES.items():
        files = [path.name for path in harness.files()]
        assert harness.harness in files
        assert any(harness.concerned.match(file) for file in files), name
        assert name in fuzz.LONGEST_INPUT


@pytest.mark.parametrize("name", fuzz.PYTHON)
def test_seeds_are_no_findings_and_reach_each_module(name: str) -> None:
    target = load(name)
    modules = {importlib.import_module(module).__file__: module for module in target.CONCERNED}
    reached = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        reached.add(frame.f_code.co_filename)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for seed in target.SEEDS:
            assert target.one(seed) is None
    finally:
        sys.settrace(before)
    missed = {module for file, module in modules.items() if file not in reached}
    assert not missed - NOT_BY_SEEDS.get(name, set())


NOT_BY_SEEDS = {"kernels": {"corral.boot.real_mode"}}  # a kernel of before bzImage: none is made here


def test_lines_of_functions_alone_count() -> None:
    code = compile(
        "import os\n\ndef f():\n    return 1\n\nclass C:\n    x = 1\n    def g(self): return 2\n", "x", "exec"
    )
    assert in_functions(code) <= {4, 8}
    assert 4 in in_functions(code)


def test_atheris_is_skipped_by_name_unless_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(fuzz.clang, "get", lambda: "clang-19")
    assert fuzz.fit(["uart", "tar"], wanted=False) == ["uart"]
    assert "fuzz: skipped: tar: there is no Atheris for this Python" in capsys.readouterr().err
    with pytest.raises(fuzz.HostError, match="pip install atheris"):
        fuzz.fit(["tar"], wanted=True)
