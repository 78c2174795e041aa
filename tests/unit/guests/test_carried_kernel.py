"""The small kernel of the package corral-kernel, taken where it was made for this Corral."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.guests import carried_kernel, debian, initramfs, kernel

VERSION = "6.1.0-1"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package beside a Corral whose cache is empty."""
    folder = tmp_path / carried_kernel.MODULE
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / carried_kernel.BUSYBOX).write_bytes(b"a busybox")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def _about(folder: Path, key: str, version: str = VERSION) -> None:
    (folder / carried_kernel.ABOUT).write_text(json.dumps({"version": version, "key": key}))


def test_one_that_was_made_for_this_corral_is_ready(installed: Path) -> None:
    _about(installed, kernel.key(VERSION))
    found = kernel.get(kernel.SMALL)
    assert (found.version, found.path) == (VERSION, str(installed / "vmlinux"))
    assert found.symbols == str(installed / "System.map")


@pytest.mark.parametrize("version", [VERSION, "not a version"])
def test_one_of_another_corral_is_not(installed: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """It is told of where the kernel would be built."""
    _about(installed, "0123456789abcdef", version)
    assert [found for found in kernel.ready() if found.name == kernel.SMALL] == []

    def stop(package: str, prefix: str) -> str:
        raise InterruptedError

    monkeypatch.setattr(debian, "dependency", stop)
    said: list[str] = []
    with pytest.raises(InterruptedError):
        kernel.get(kernel.SMALL, said.append)
    assert said == ["the package corral-kernel was made for another version of Corral, and is not used"]


def test_its_busybox_is_taken(installed: Path) -> None:
    assert initramfs.busybox() == b"a busybox"
