"""Files of a job on a node: compared by content whatever their holes, and fetched where they are missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corral.errors import HostError

BLOCK = 64 << 10


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """corral.ray.files without Ray, which it does not use itself; with a cache of its own."""
    import sys

    fake = SimpleNamespace(__version__="2.60.0", experimental=SimpleNamespace(sandbox=None))
    names = {"ray": fake, "ray.experimental": fake.experimental, "ray.experimental.sandbox": fake.experimental}
    for name, module in names.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = {name for name in sys.modules if name.startswith("corral.ray")}
    from corral.ray import files

    yield files
    for name in [name for name in sys.modules if name.startswith("corral.ray") and name not in before]:
        del sys.modules[name]


def sparse(path: Path, *pieces: tuple[int, bytes], size: int = 4 << 20) -> str:
    with path.open("wb") as file:
        for at, content in pieces:
            os.pwrite(file.fileno(), content, at)
        file.truncate(size)
    return str(path)


class Remote:
    """An actor's handle, whose calls are made here."""

    def __init__(self, source: Any) -> None:
        self.asked = 0

        async def call(path: str, at: int) -> Any:
            self.asked += 1
            return source.piece(path, at)

        self.piece = SimpleNamespace(remote=call)


def test_holes_and_zeros_are_the_same_and_content_is_not(files: Any, tmp_path: Path) -> None:
    one = files.digest(sparse(tmp_path / "a", (1 << 20, b"x" * 5000)))
    assert files.digest(sparse(tmp_path / "b", (0, bytes(1 << 20)), (1 << 20, b"x" * 5000))) == one
    others = [
        sparse(tmp_path / "c", (1 << 20, b"x" * 5001)),
        sparse(tmp_path / "d", ((1 << 20) + BLOCK, b"x" * 5000)),
        sparse(tmp_path / "e", (1 << 20, b"x" * 5000), size=(4 << 20) + 1),
        sparse(tmp_path / "f"),
    ]
    assert one not in {files.digest(other) for other in others}


def test_what_is_here_is_not_fetched(files: Any, tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", (0, b"x"))
    remote = Remote(files.FileSource((path,)))
    wanted = files.FleetFile(path, files.digest(path), 4 << 20, remote)
    assert asyncio.run(files.here(wanted)) == path
    assert remote.asked == 0


def test_what_is_another_here_is_fetched_once_with_its_holes(files: Any, tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", (1 << 20, b"x" * 5000), (3 << 20, b"y"))
    remote = Remote(files.FileSource((path,)))
    wanted = files.FleetFile(f"{path}.elsewhere", files.digest(path), 4 << 20, remote)
    remote.piece = SimpleNamespace(remote=lambda _, at, call=remote.piece.remote: call(path, at))
    for _ in range(2):
        target = asyncio.run(files.here(wanted))
        assert Path(target).read_bytes() == Path(path).read_bytes()
    assert remote.asked == 3
    assert os.stat(target).st_blocks < 1 << 11
    assert os.listdir(os.path.dirname(target)) == [wanted.digest]


def test_a_file_that_changed_meanwhile_is_refused_and_nothing_is_left(files: Any, tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", (0, b"x"))
    wanted = files.FleetFile(path, files.digest(path), 4 << 20, Remote(files.FileSource((path,))))
    sparse(tmp_path / "a", (0, b"z"))
    with pytest.raises(HostError, match="not as it was when the job began"):
        asyncio.run(files.here(wanted))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_no_other_file_is_given(files: Any, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is no file of this job"):
        files.FileSource((str(tmp_path / "a"),)).piece("/etc/passwd", 0)
