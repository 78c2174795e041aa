"""What tests need is checked before the first of them, and named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import debian
from tests.support import programs


def test_a_folders_tests_need_those_of_the_folders_above_it() -> None:
    needed = programs.needed([programs.TESTS / "unit" / "images" / "test_ext4.py"])
    assert needed == {"gcc": "gcc", "nm": "binutils", "mke2fs": "e2fsprogs", "blkid": "util-linux"}
    assert set(programs.needed([programs.TESTS / "unit" / "test_bus.py"])) == {"gcc", "nm"}


def test_every_folder_of_the_table_is_there() -> None:
    assert all((programs.TESTS / folder).is_dir() for folder in programs.NEEDED)


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(packages: list[str], what_for: str) -> None:
        raise HostError(f"{what_for} needs {' '.join(packages)}")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "require_installed", refuse)
    with pytest.raises(pytest.exit.Exception) as caught:
        programs.require([programs.TESTS / "durability" / "test_kill.py"])
    assert str(caught.value) == "running these tests (gcc, mke2fs, nm) needs binutils e2fsprogs gcc"
    assert caught.value.returncode == 3


def test_nothing_is_asked_for_when_all_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "NEEDED", {"": {"one": "box", "/dev/null": "other"}})
    (tmp_path / "one").touch(mode=0o755)
    monkeypatch.setattr(debian, "require_installed", lambda *words: pytest.fail("nothing is missing"))
    programs.require([Path(__file__)])


def test_a_host_without_dpkg_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"^building needs gcc, flex, as Debian calls them; install them$"):
        debian.require_installed(["gcc", "flex"], "building")
