"""Every listing has --json, for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.cli import main

LISTINGS = {
    "cache": [],
    "images": {"distributions": [], "images": []},
    "kernel list": [],
    "ps": [],
}


@pytest.mark.parametrize("words", LISTINGS)
def test_a_listing_of_nothing_is_json_too(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main([*words.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == LISTINGS[words]


def test_what_the_cache_has_is_told_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "corral" / "kernels" / "small_1"
    folder.mkdir(parents=True)
    (folder / "vmlinux").write_bytes(bytes(10_000))
    assert main(["cache", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["kind"], entry["name"], entry["path"], entry["in_use"]) == ("kernels", "small_1", str(folder), False)
    assert entry["size"] >= 10_000
