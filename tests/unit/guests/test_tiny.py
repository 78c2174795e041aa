"""Guests of a few instructions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral import tiny_guest
from corral.boot import open_kernel
from corral.errors import ConfigError, HostError
from corral.guests import tiny


def test_each_is_assembled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tiny_guest("hello")
    with open_kernel(path) as kernel:
        assert kernel.kind == "pvh"
    before = os.stat(path).st_mtime_ns
    assert (tiny_guest("hello"), os.stat(path).st_mtime_ns) == (path, before)
    assert tiny_guest("port_writes", COUNT=1, PORT=0x80) != tiny_guest("port_writes", COUNT=2, PORT=0x80)


def test_one_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="there are absent, "):
        tiny_guest("../hello")


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="apt-get install gcc"):
        tiny_guest("hello")


def test_one_that_does_not_assemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HostError, match="cannot assemble the tiny guest port_writes"):
        tiny_guest("port_writes")  # which wants COUNT


def test_they_are_in_a_wheel() -> None:
    import tomllib

    with open(Path(tiny.__file__).parents[3] / "pyproject.toml", "rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert wheel["guests/asm"] == "corral/guests/data/asm"
