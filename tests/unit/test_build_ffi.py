"""What the shim's build needs is named where it is missing. tests/compilers builds it, with each compiler."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from csrc import build_ffi


def test_missing_python_headers_are_named_with_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=rf"^csrc: {sys.executable} has no Python\.h; .*apt-get install python3-dev$"):
        build_ffi.compile_shim(tmp_path)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(SystemExit, match=r"^csrc: no no-such-compiler; .*apt-get install gcc$"):
        build_ffi.compile_shim(tmp_path)
