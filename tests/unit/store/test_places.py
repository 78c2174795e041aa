"""Folders and what fsspec reaches as stores, the turns of pushes and prunes, and threads that hold up no end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corral.errors import ConfigError, HostError
from corral.store import address, turns, workers
from corral.store.place import Folder, opened
from corral.store.remote import Remote

if TYPE_CHECKING:
    from corral.store.place import Place


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    where = str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/store"
    return opened(address.of_store(where))


def test_files_are_there_by_name(place: Place) -> None:
    assert not place.has("a/b/one")
    assert place.files("a") == {}
    before = time.time()
    place.write("a/b/one", b"1")
    place.write("a/b/one", b"another")
    place.write("a/two", b"")
    place.settle()
    assert place.has("a/b/one")
    assert sorted(place.files("a")) == ["a/b/one", "a/two"]
    assert all(abs(when - before) < 60 for when in place.files("a").values())
    assert place.read("a/b/one", 100) == b"another"
    assert place.read("a/b/one", 2) == b"ano"
    place.remove("a/b/one")
    place.remove("a/b/one")
    with pytest.raises(FileNotFoundError):
        place.read("a/b/one", 100)


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert Folder(str(tmp_path)).read("x", 10) == b""


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostError, match="the store"):
        Folder(str(tmp_path / "file")).write("chunks/x", b"")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket/a/web", ("s3", "bucket/a", "web")),
        ("file:///srv/store/web", ("", "/srv/store", "web")),
        ("/srv/store/web-1.2", ("", "/srv/store", "web-1.2")),
        ("memory://x/web", ("memory", "x", "web")),
    ],
)
def test_names_of_snapshots(text: str, found: tuple[str, str, str]) -> None:
    one = address.of_snapshot(text)
    assert (one.scheme, one.root, one.name) == found


@pytest.mark.parametrize(
    "text",
    ["", "web", "/", "s3://", "s3://bucket", "s3://b/", "/srv/..", "/a/b c", "/a/.x", "a/x.unfinished-1", "/a\0/x"],
)
def test_what_names_no_snapshot(text: str) -> None:
    with pytest.raises(ConfigError):
        address.of_snapshot(text)


def test_schemes_that_are_not_known() -> None:
    with pytest.raises(ConfigError, match="nothing that fsspec knows"):
        opened(address.of_store("nothing://x/y"))


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(HostError, match=r"pip install 'corral\[store\]'"):
        opened(address.of_store("s3://x/y"))


def test_what_a_file_system_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Remote(address.of_store(f"memory://{uuid.uuid4().hex}"))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no\nroute")

    monkeypatch.setattr(place._system, "pipe_file", fail)
    monkeypatch.setattr(place._system, "cat_file", fail)
    for call in (lambda: place.write("x", b""), lambda: place.read("x", 1)):
        with pytest.raises(HostError, match="no route; check its name, keys and network"):
            call()


def test_a_push_and_a_prune_refuse_each_other(place: Place) -> None:
    with turns.pushing(place), turns.pushing(place):
        with pytest.raises(HostError, match="a push to the store has not ended"), turns.pruning(place, False):
            pass
        with pytest.raises(HostError, match="a push to the store has not ended"), turns.pruning(place, False):
            pass
    with turns.pruning(place, False), pytest.raises(HostError, match="is being pruned"), turns.pushing(place):
        pass
    with turns.pushing(place):
        pass
    assert place.files("pushing") == place.files("pruning") == {}


def test_what_a_killed_push_left_is_overruled(tmp_path: Path) -> None:
    place = Folder(str(tmp_path))
    place.write("pushing/dead", b"")
    with pytest.raises(HostError, match="--force"), turns.pruning(place, False):
        pass
    old = time.time() - turns.STALE - 60
    os.utime(tmp_path / "pushing/dead", (old, old))
    with turns.pruning(place, False):
        pass
    place.write("pushing/dead", b"")
    with turns.pruning(place, True):
        pass
    assert place.files("pushing") == {}


def test_results_come_in_order() -> None:
    def late(number: int) -> int:
        time.sleep((number % 3) / 1000)
        return number

    assert list(workers.each(late, range(100), 4)) == list(range(100))
    assert list(workers.each(late, [], 4)) == []


def test_the_first_error_ends_it() -> None:
    seen = []

    def fail(number: int) -> int:
        seen.append(number)
        if number == 5:
            raise HostError("five")
        return number

    with pytest.raises(HostError, match="five"):
        list(workers.each(fail, range(1000), 2))
    assert len(seen) < 20


def test_a_store_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.05)
    never = threading.Event()
    with pytest.raises(HostError, match="has not answered"):
        list(workers.each(lambda _: never.wait(60), range(3), 2))
    never.set()


def test_a_store_that_does_not_answer_holds_up_no_end() -> None:
    """SIGINT ends the process, while its threads wait for ever."""
    script = (
        "import threading, sys; from corral.store import workers\n"
        "def wait(_): print('waits', flush=True); threading.Event().wait()\n"
        "list(workers.each(wait, [1], 1))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(2)
        assert process.wait(20) in (-2, 130)
