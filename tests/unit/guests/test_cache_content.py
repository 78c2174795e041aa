"""`corral cache`: what there is, how large; and away with what is not in use."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from corral.cli import main
from corral.guests import cache, cache_content


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "corral"


def made(store: Path, *parts: str) -> Path:
    """As cache.making() makes it, its lock included."""
    folder = store.joinpath(*parts)
    with cache.making(str(folder)) as unfinished:
        assert unfinished is not None
        Path(unfinished, "file").write_bytes(b"x" * 8192)
    return folder


def everything(store: Path) -> list[Path]:
    return [made(store, *cache_content._INSIDE.get(kind, (kind,)), "thing_1") for kind in cache_content.KINDS]


def test_every_kind_of_thing_that_corral_caches_is_told(store: Path) -> None:
    """Whatever calls cache.folder() for something to keep is in the table."""
    import re

    import corral

    used = set()
    for path in Path(corral.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r'cache\.folder\("([a-z-]+)"(?: if|,|\))', path.read_text()))
        used |= set(re.findall(r'cache\.folder\("[a-z-]+" if options else "([a-z-]+)"', path.read_text()))
    assert {"kernels", "debian", "linux", "linux-others", "distributions"} <= used
    assert used <= set(cache_content.KINDS)


def test_the_list(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(store, "kernels", "small_6.1_abc")
    made(store, "kernels", "small-smp_6.1_abc")
    made(store, "bytecode", "more")
    assert main(["cache"]) == 0
    kernels, work, total = capsys.readouterr().out.splitlines()
    assert kernels.split()[:5] == ["kernels", "16", "KiB", "2", "entries"]
    assert work.startswith("work on it")
    assert total.split()[:5] == ["all", "of", "it", "24", "KiB"]
    assert total.endswith(str(store))
    assert main(["cache", "--all"]) == 0
    assert "small-smp_6.1_abc" in capsys.readouterr().out


def test_an_empty_one(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert main(["cache", "--clean"]) == 0
    assert "0 bytes" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["cache", "--clean"], ["images", "prune", "--all"]])
def test_all_goes_and_its_locks_too(words: list[str], store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = everything(store)
    left = store / "kernels" / "small_6.1_abc.unfinished-xyz"
    left.mkdir()
    work = made(store, "venv-1", "bin")
    assert main(words) == 0
    assert f"removed {8 * len(folders)} KiB\n" == capsys.readouterr().out
    assert work.exists()
    assert [path for path in store.rglob("*") if path.is_file() and "venv-1" not in str(path)] == []
    assert not any(folder.exists() for folder in (*folders, left))


def test_what_a_guest_has_on_a_disk_stays(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used, other = made(store, "cloud-init", "one"), made(store, "cloud-init", "two")
    with open(used / "file", "rb") as disk:
        fcntl.flock(disk, fcntl.LOCK_SH)
        assert main(["cache", "--all"]) == 0
        assert "one, in use" in capsys.readouterr().out
        assert main(["cache", "--clean"]) == 0
        assert "; cloud-init/one in use" in capsys.readouterr().out
        assert (used.exists(), other.exists()) == (True, False)
    assert main(["cache", "--clean"]) == 0
    assert not used.exists()


def test_what_is_being_made_stays(store: Path) -> None:
    with cache.making(str(store / "kernels" / "small")) as unfinished:
        assert unfinished is not None
        freed, kept = cache_content.clean()
        assert (freed, [name.partition(".")[0] for name in kept]) == (0, ["kernels/small"])
        assert Path(unfinished).exists()
    assert (store / "kernels" / "small").exists()


def test_a_stage_goes_with_its_distribution(store: Path) -> None:
    stage = made(store, "distributions", "stages", "debian-sid_0123_6.1")
    with open(store / "distributions" / "debian-sid_0123.lock", "w") as maker:
        fcntl.flock(maker, fcntl.LOCK_EX)
        cache_content.clean()
        assert stage.exists()
    cache_content.clean()
    assert not stage.exists()


def test_making_while_the_cache_is_cleaned_makes_each_thing_once_at_a_time(store: Path) -> None:
    """A lock that is removed while others wait for it locks nothing: they take the new one."""
    inside, most, over = [0], [0], threading.Event()
    cleaned: list[bool] = []

    def make() -> None:
        while not over.is_set():
            with cache.making(str(store / "kernels" / "small")) as unfinished:
                if unfinished:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    Path(unfinished, "file").write_text("whole")
                    inside[0] -= 1

    def clean() -> None:
        try:
            for _ in range(150):
                cache_content.clean()
            cleaned.append(True)
        finally:
            over.set()

    threads = [threading.Thread(target=make) for _ in range(3)] + [threading.Thread(target=clean) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert cleaned == [True, True]
    assert most == [1]
