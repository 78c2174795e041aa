"""Images in the cache: listed, removed, kept while they are used, and within a limit."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from corral import oci
from corral.cli import images, main, prune, rmi
from corral.errors import BootError, ConfigError
from corral.oci import store
from tests.support.container_images import Layout, folder, layer, text


def made(layout: Layout, tag: str, size: int = 10) -> oci.Image:
    layout.add(layout.image([layer(folder("etc"), text("etc/x", tag * size))]), tag)
    return oci.prepare(f"oci:{layout.path}:{tag}")


def test_they_are_listed(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = made(layout, "a"), made(layout, "b")
    long_ago = time.time() - 3 * 86400
    os.utime(first.root, (long_ago, long_ago))
    with second.root.open("rb") as guest:
        fcntl.flock(guest, fcntl.LOCK_SH)
        assert images.run([]) == 0
    used, old = capsys.readouterr().out.splitlines()
    assert used.startswith(second.name)
    assert used.endswith("in use")
    assert old.split()[:2] == [first.name, first.digest[:19]]
    assert old.endswith("used 3 days ago")


def test_they_are_removed_by_name_and_by_digest(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = made(layout, "a"), made(layout, "b")
    assert rmi.run([first.name]) == 0
    assert not first.root.exists()
    assert rmi.run([second.digest[7:15]]) == 0
    assert store.listed() == []
    assert main(["rmi", first.name]) == 2
    assert "there is no image" in capsys.readouterr().err


def test_one_of_two_names_goes_alone(layout: Layout) -> None:
    image = made(layout, "a")
    layout.entries.append({**layout.entries[0], "annotations": {"org.opencontainers.image.ref.name": "same"}})
    layout.add(layout.image([layer(text("other"))]), "other")
    same = oci.prepare(f"oci:{layout.path}:same")
    assert same.root == image.root
    assert images.run(["rm", same.name]) == 0
    assert image.root.exists()
    assert images.run(["rm", image.name]) == 0
    assert not image.root.exists()


def test_what_a_guest_uses_stays(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    image = made(layout, "a")
    with image.root.open("rb") as guest:
        fcntl.flock(guest, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="in use by a guest"):
            rmi.run([image.name])
        assert prune.run(["--all"]) == 0
    assert image.root.exists()
    assert prune.run([]) == 0
    assert image.root.exists()
    assert prune.run(["--all"]) == 0
    assert store.listed() == []


def test_the_limit(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    old, newer = made(layout, "a", 1 << 20), made(layout, "b", 1 << 20)
    for image, age in ((old, 2000), (newer, 1000)):
        os.utime(image.root, (time.time() - age, time.time() - age))
    monkeypatch.setenv("CORRAL_IMAGES_LIMIT", "2M")
    third = made(layout, "c", 1 << 20)
    assert [image.root.exists() for image in (old, newer, third)] == [False, False, True]
    monkeypatch.setenv("CORRAL_IMAGES_LIMIT", "much")
    with pytest.raises(ConfigError, match="CORRAL_IMAGES_LIMIT"):
        oci.prepare(third.name)


def test_a_damaged_cache_is_told(layout: Layout, cache: Path) -> None:
    image = made(layout, "a")
    (image.root.parent / "about.json").write_text("{")
    with pytest.raises(BootError, match="corral rmi"):
        oci.prepare(image.name)
    (cache / "container-images/names.json").write_text("[" * 100_000)
    assert [found.names for found in store.listed()] == [()]
    rmi.run([image.digest])
    assert oci.prepare(image.name).root.exists()


def test_what_killed_processes_left_goes(layout: Layout, cache: Path) -> None:
    left = cache / "container-images/scratch-0123"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"x" * 5000)
    with store.scratch() as own:
        assert os.path.isdir(own)
        assert not left.exists()
        with store.scratch():
            assert os.path.isdir(own)
    assert not os.path.exists(own)
