"""Programs that run in guests: compiled here, or carried by a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import programs, sources


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a wheel has its programs; the other sources stay where they are."""
    carried = tmp_path / programs.CARRIED
    carried.mkdir()
    real = sources.folder
    monkeypatch.setattr(sources, "folder", lambda name: str(carried) if name == programs.CARRIED else real(name))
    return carried


def test_each_source_has_a_program_of_its_own() -> None:
    made = [programs.program(source) for source in programs.names()]
    assert {"agent", "init", "host", "root", "command"} <= set(made)
    assert len(made) == len(set(made))


def test_what_a_wheel_carries_is_taken(wheel: Path, tmp_path: Path) -> None:
    (wheel / "init").write_bytes(b"carried")
    assert programs.compiled("init.c", str(tmp_path)) == b"carried"
    assert programs.carries("rom") is None


def test_a_checkout_compiles(tmp_path: Path) -> None:
    assert programs.carries("init") is None
    assert programs.compiled("init.c", str(tmp_path)).startswith(b"\x7fELF")
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="apt-get install gcc"):
        programs.compiled("init.c", str(tmp_path))
