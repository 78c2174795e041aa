"""Distributions in the cache: their names, `corral images`, and that nothing in use goes."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from corral.cli import boot, images
from corral.config import DiskConfig
from corral.errors import ConfigError, HostError
from corral.guests import apt_suite, debian, distribution, distribution_store
from corral.kvm.system import Kind
from corral.launch import distribution as launched
from corral.launch.events import ignore
from corral.launch.request import BootRequest


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "corral" / "distributions"


def made(store: Path, name: str, key: str = "") -> Path:
    folder = store / f"{name}_{key or distribution._key()}"
    folder.mkdir(parents=True)
    (folder / "release").write_text("6.1-amd64\n")
    (folder / "root.img").write_bytes(b"x" * 8192)
    return folder


def test_what_is_in_the_cache_is_taken_as_it_is(store: Path) -> None:
    folder = made(store, "debian-trixie")
    found = distribution.get("debian:trixie", generic=False)
    assert (found.folder, found.release) == (str(folder), "6.1-amd64")


@pytest.mark.parametrize("word", ["debian:../../etc", "debian:a b", "debian:é"])
def test_a_release_that_is_no_name(word: str, store: Path) -> None:
    with pytest.raises(ConfigError, match="release's name"):
        distribution.get(word, generic=False)
    assert not store.exists()


def test_list(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(store, "debian-sid", "0" * 16)
    with open(made(store, "debian-trixie") / "root.img", "rb") as guest:
        fcntl.flock(guest, fcntl.LOCK_SH)
        assert images.run(["list"]) == 0
    old, used = capsys.readouterr().out.splitlines()
    assert old.startswith("debian-sid ")
    assert "prune" in old
    assert used.split()[:2] == ["debian-trixie", "6.1-amd64"]
    assert used.endswith("in use")


def test_what_a_guest_uses_is_not_removed(store: Path) -> None:
    folder = made(store, "debian-trixie")
    with open(folder / "root.img", "rb") as guest:
        fcntl.flock(guest, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="in use"):
            images.run(["rm", "debian-trixie"])
        assert distribution_store.prune() == 0
    assert (folder / "root.img").exists()
    assert images.run(["rm", "debian-trixie"]) == 0
    assert not folder.exists()


def test_prune_takes_the_old_and_the_interrupted(store: Path) -> None:
    kept, old = made(store, "debian-trixie"), made(store, "debian-trixie", "0" * 16)
    stage = store / "stages" / "debian-sid_0123_6.1"
    stage.mkdir(parents=True)
    left = store / f"{kept.name}.unfinished-abc"
    left.mkdir()
    assert distribution_store.prune() >= 8192
    assert kept.exists()
    assert [path for path in (old, stage, left) if path.exists()] == []


def test_what_is_being_made_stays(store: Path) -> None:
    stage = store / "stages" / "debian-sid_0123_6.1"
    stage.mkdir(parents=True)
    with open(store / "debian-sid_0123.lock", "w") as maker:
        fcntl.flock(maker, fcntl.LOCK_EX)
        distribution_store.prune()
    assert stage.exists()


@pytest.mark.parametrize("words", [["rm"], ["rm", "nothing"], ["list", "x"], ["burn"]])
def test_bad_words(words: list[str], store: Path) -> None:
    with pytest.raises(ConfigError, match="see corral images"):
        images.run(words)


def sources_are(lines: str, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    called: list[list[str]] = []

    def output(command: list[str], what: str) -> str:
        called.append(command)
        return lines if "indextargets" in command else ""

    monkeypatch.setattr(debian, "output", output)
    return called


HOST = "http://a/debian/ bookworm Debian\nhttp://a/security/ bookworm-security Debian\nhttp://b/ nodistro Node Source\n"


def test_the_hosts_own_release_comes_with_its_updates(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources_are(HOST, monkeypatch)
    found = apt_suite.find("debian", "bookworm")
    assert found.sources == ("deb http://a/debian/ bookworm main", "deb http://a/security/ bookworm-security main")
    assert found.options == ()


def test_another_release_is_looked_for_in_the_same_archive(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = sources_are(HOST, monkeypatch)
    found = apt_suite.find("debian", "trixie")
    assert found.sources == ("deb http://a/debian/ trixie main",)
    assert called[-1][-1] == "update"
    assert set(found.options) < set(called[-1])
    assert (store.parent / "apt" / "debian-trixie" / "sources.list").read_text() == "deb http://a/debian/ trixie main\n"


def test_a_family_that_the_host_has_no_sources_of(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources_are(HOST, monkeypatch)
    with pytest.raises(HostError, match="have nothing of ubuntu"):
        apt_suite.find("ubuntu", "noble")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["debian", "--initrd", "x"], "leave --initrd out"),
        (["debian", "--root", "0"], "leave --root out"),
        (["debian", "--"], "followed by the command that debian is to run"),
        (["debian", "--kernel", "big"], "none of cloud"),
        (["debian", "--memory", "1X"], "not a size"),
    ],
)
def test_contradictions_are_told_before_anything_is_made(words: list[str], complaint: str, store: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        boot.machine_config(words)
    assert not store.exists()


def test_the_machine_that_a_distribution_gets(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(store, "debian-trixie")
    (folder / "vmlinux").touch()
    monkeypatch.setattr(launched, "host_kind", lambda: Kind.HARDWARE)  # which takes the kernel as it is
    mine = DiskConfig("mine")
    resolved = launched.resolve(BootRequest("debian:trixie", variant="cloud", disks=(mine,)), ignore)
    assert resolved == BootRequest(
        kernel=str(folder / "vmlinux"),
        initrd=str(folder / "initramfs.cpio"),
        memory=512 << 20,
        disks=(DiskConfig(f"{folder}/root.img", snapshot=True), mine),
        grace=15.0,
    )
    commanded = launched.resolve(BootRequest("debian:trixie", variant="small", command=("true",), memory=1), ignore)
    assert commanded == BootRequest(
        variant="small",
        command=("true",),
        initrd=str(folder / "initramfs.cpio"),
        serves_channel=True,
        parameters=f"init={distribution.COMMAND} ",
        memory=1,
        disks=(DiskConfig(f"{folder}/root.img", snapshot=True),),
    )


def test_a_folder_of_that_name_is_not_meant(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Debian package's sources have a folder debian."""
    folder = made(store, "debian-trixie")
    (folder / "vmlinux").touch()
    (tmp_path / "debian:trixie").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launched, "host_kind", lambda: Kind.HARDWARE)
    named = BootRequest("debian:trixie", variant="cloud")
    assert launched.resolve(named, ignore).kernel == str(folder / "vmlinux")
    outside = BootRequest("./debian:trixie")
    assert launched.resolve(outside, ignore) is outside
