"""The shim with each C compiler that is on this host: some make errors of what others let pass."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from corral.backends import folder_server
from csrc import build_ffi

_NAME = re.compile(r"(gcc|clang)(-\d+)?")


def compilers() -> list[str]:
    """Those in the PATH; one that has several names, as gcc and gcc-12, by the longest of them."""
    names: dict[str, str] = {}
    for folder in filter(os.path.isdir, os.get_exec_path()):
        for name in sorted(filter(_NAME.fullmatch, os.listdir(folder)), key=len):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                names[os.path.realpath(path)] = name
    return sorted(names.values())


@pytest.mark.parametrize("compiler", compilers())
def test_the_shim_compiles(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    assert build_ffi.compile_shim(tmp_path).stat().st_size > 50_000


@pytest.mark.parametrize("compiler", compilers())
def test_the_server_of_shared_folders_compiles_and_runs(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(folder_server, "PROGRAM", str(build_ffi.compile_program("_corral_folder_server", tmp_path)))
    assert folder_server.jail().filter


@pytest.mark.parametrize("compiler", compilers())
def test_a_declaration_of_another_type_than_the_headers_is_an_error(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    right = build_ffi.generated_source()
    wrong = right.replace("unsigned long long(*tmp)[8] = &p->debugreg", "uint64_t(*tmp)[8] = &p->debugreg")
    assert wrong != right
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(build_ffi, "generated_source", lambda: wrong)
    with pytest.raises(SystemExit, match="does not compile"):
        build_ffi.compile_shim(tmp_path)
    assert "incompatible" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
