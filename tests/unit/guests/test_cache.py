"""The cache folder: made once, by one process, and whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from corral.guests import cache


def test_it_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder("kernels", "one") == str(tmp_path / "corral" / "kernels" / "one")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == str(tmp_path / ".cache" / "corral")


def test_what_is_made_appears_at_once_and_is_not_made_again(tmp_path: Path) -> None:
    target = tmp_path / "things" / "thing"
    with cache.making(str(target)) as unfinished:
        assert unfinished is not None
        Path(unfinished, "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    with cache.making(str(target)) as unfinished:
        assert unfinished is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_one_leaves_nothing(tmp_path: Path, interruption: type[BaseException]) -> None:
    def make() -> None:
        with cache.making(str(tmp_path / "thing")) as unfinished:
            assert unfinished is not None
            Path(unfinished, "file").write_text("half")
            raise interruption

    with pytest.raises(interruption):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]


def test_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    left, other = tmp_path / "thing.unfinished-abc", tmp_path / "thing2.unfinished-abc"
    for folder in (left, other):
        folder.mkdir()
        (folder / "file").write_text("half")
    with cache.making(str(tmp_path / "thing")):
        assert not left.exists()
        assert other.exists()


def test_of_two_at_once_the_second_waits_and_says_so(tmp_path: Path) -> None:
    target = str(tmp_path / "thing")
    said: list[str] = []
    outcome: list[str | None] = []
    waits = threading.Event()

    def progress(text: str) -> None:
        said.append(text)
        waits.set()

    def second() -> None:
        with cache.making(target, progress) as unfinished:
            outcome.append(unfinished)

    thread = threading.Thread(target=second)
    with cache.making(target) as unfinished:
        assert unfinished is not None
        thread.start()
        assert waits.wait(30)
        assert not outcome
    thread.join(30)
    assert outcome == [None]
    assert said == ["waiting for another process that makes thing"]
