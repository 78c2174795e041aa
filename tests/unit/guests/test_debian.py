"""Debian packages: what apt says becomes one line that tells what to do. A fake apt stands in for the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral import voice
from corral.errors import ConfigError, HostError
from corral.guests import consent, debian


class FakeHost:
    """A PATH with nothing but the commands that a test writes, and a cache folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.commands = folder / "bin"
        self.commands.mkdir()
        self.cache = folder / "cache"

    def command(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost(tmp_path)
    monkeypatch.setenv("PATH", str(fake.commands))
    monkeypatch.setenv("XDG_CACHE_HOME", str(fake.cache))
    return fake


def complaint(caught: pytest.ExceptionInfo[HostError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_status == 3
    return text


def test_the_candidate_is_apts(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "%s:\n  Installed: (none)\n  Candidate: 1:2.3-4\n" "$2"')
    assert debian.candidate("box") == "1:2.3-4"


def test_a_metapackage_stands_for_its_first_fitting_dependency(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "linux\n  Depends: other\n  Depends: linux-image-6.1-amd64\n"')
    assert debian.dependency("linux", "linux-image-") == "linux-image-6.1-amd64"


def test_how_large_a_download_is(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "Package: box\nInstalled-Size: 9\nSize: 139131140\nDescription: Size: 1\n"')
    assert debian.download("box") == "box, 139 MB"


@pytest.mark.parametrize("script", ['printf ""', r'printf "box:\n  Candidate: (none)\n"'])
def test_lists_that_do_not_know_the_package(host: FakeHost, script: str) -> None:
    host.command("apt-cache", script)
    with pytest.raises(HostError) as caught:
        debian.candidate("box")
    assert "box" in complaint(caught)
    assert "apt-get update" in complaint(caught)


def test_a_metapackage_that_depends_on_nothing_of_the_kind(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "linux\n  Depends: other\n"')
    with pytest.raises(HostError) as caught:
        debian.dependency("linux", "linux-image-")
    assert "apt-get update" in complaint(caught)


def test_a_host_without_apt(host: FakeHost) -> None:
    with pytest.raises(HostError) as caught:
        debian.fetch("box")
    assert "apt-cache" in complaint(caught)


def test_apts_last_word_is_passed_on(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "  Candidate: 1\n"')
    host.command("apt-get", 'echo "W: first" >&2; echo "E: Temporary failure resolving host" >&2; exit 100')
    with pytest.raises(HostError) as caught:
        debian.fetch("box")
    assert "apt-get cannot get box: Temporary failure resolving host;" in complaint(caught)
    assert [path.suffix for path in (host.cache / "corral" / "debian").iterdir()] == [".lock"]


def test_a_package_is_downloaded_once_and_its_files_are_kept(host: FakeHost) -> None:
    host.command("apt-cache", r'printf "  Candidate: 1:2\n"')
    host.command("apt-get", 'echo again >> "$XDG_CACHE_HOME/downloads"; : > box.deb')
    host.command("dpkg-deb", 'echo "$1" > "$3/file"')
    folder = debian.fetch("box")
    assert os.path.basename(folder) == "box_1%3a2"
    assert Path(folder, "file").read_text() == "--extract\n"
    assert debian.fetch("box") == folder
    assert (host.cache / "downloads").read_text() == "again\n"


def test_what_is_missing_is_named_to_who_cannot_install_it(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host.command("dpkg-query", r'printf "gcc installed\n"; exit 1')
    with pytest.raises(HostError) as caught:
        debian.require_installed(["gcc", "flex", "bison"], "building")
    assert "apt-get install flex bison" in complaint(caught)


def test_nothing_is_installed_when_nothing_is_missing(host: FakeHost) -> None:
    host.command("dpkg-query", r'printf "gcc installed\nflex installed\n"')
    debian.require_installed(["gcc", "flex"], "building")


@pytest.fixture
def root(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """One of which a package is missing."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("CORRAL_INSTALL", raising=False)
    host.command("dpkg-query", r'printf "gcc installed\nflex not-installed\n"; exit 1')
    host.command("apt-get", 'echo "$@" >> "$XDG_CACHE_HOME-asked"')
    return host


@pytest.mark.parametrize("answer", [None, "0", "no"])
def test_root_installs_nothing_unasked(root: FakeHost, monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    if answer == "0":
        monkeypatch.setenv("CORRAL_INSTALL", "0")
    elif answer:
        monkeypatch.setattr(voice, "ask", lambda question: False)
    with pytest.raises(HostError) as caught:
        debian.require_installed(["gcc", "flex"], "building")
    assert (
        "building needs Debian packages that are not installed: flex; install them: apt-get install flex, or have "
        in (complaint(caught))
    )
    assert "--yes, or CORRAL_INSTALL=1" in complaint(caught)
    assert not Path(f"{root.cache}-asked").exists()


def test_a_word_that_is_no_answer(root: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_INSTALL", "yes")
    with pytest.raises(ConfigError, match="CORRAL_INSTALL='yes' is neither 1 nor 0"):
        debian.require_installed(["gcc", "flex"], "building")


@pytest.mark.parametrize("by", ["a variable", "an option", "a person"])
def test_root_installs_what_is_missing_when_that_is_wanted(
    root: FakeHost, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    questions = []
    if by == "a person":
        monkeypatch.setattr(voice, "ask", lambda question: questions.append(question) or True)
    else:
        monkeypatch.setenv("CORRAL_INSTALL", "1" if by == "a variable" else "0")
    if by == "an option":
        consent.give()
    debian.require_installed(["gcc", "flex"], "building")
    assert questions == [
        "building needs Debian packages that are not installed: flex. Install them by apt-get, with what they need "
        "themselves?"
    ] * (by == "a person")
    asked = Path(f"{root.cache}-asked").read_text().split()
    assert asked[:3] == ["-o", f"DPkg::Lock::Timeout={debian.LOCK_TIMEOUT}", "install"]
    assert asked[-1] == "flex"
    assert "gcc" not in asked


@pytest.mark.parametrize("place", ["bin/busybox", "usr/bin/busybox", "usr/lib/deep/bin/busybox"])
def test_a_file_is_found_in_whichever_folder_it_is(host: FakeHost, place: str) -> None:
    folder = fetched(host, place, "usr/share/doc/busybox", "usr/share/bin/busybox-not")
    assert debian.file("box", "bin/busybox") == str(folder / place)
    assert debian.file("box", "bin/busy*ox") == str(folder / place)


def test_a_link_is_no_file_of_a_package(host: FakeHost) -> None:
    folder = fetched(host, "usr/src/linux-1/linux-1.tar.bz2")
    (folder / "usr" / "src" / "linux-1.tar.bz2").symlink_to("linux-1/linux-1.tar.bz2")
    assert debian.file("box", "linux-1.tar.*") == str(folder / "usr/src/linux-1/linux-1.tar.bz2")


def test_a_file_that_a_package_has_not_is_one_line(host: FakeHost) -> None:
    fetched(host, "usr/bin/other")
    with pytest.raises(HostError) as caught:
        debian.file("box", "bin/busybox")
    assert complaint(caught) == "the package box_1 has no file bin/busybox"


def fetched(host: FakeHost, *names: str) -> Path:
    """The folder of a package that is in the cache, with these files."""
    host.command("apt-cache", r'printf "  Candidate: 1\n"')
    folder = host.cache / "corral" / "debian" / "box_1"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder
