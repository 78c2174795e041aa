"""The cache is used only where no other user could have put something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral import user_cache
from corral.errors import HostError

OTHER = 1234


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_cache, "_trusted", set())
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def refusal() -> str:
    with pytest.raises(HostError) as caught:
        user_cache.folder("kernels")
    assert "set XDG_CACHE_HOME to a folder of yours" in str(caught.value)
    return str(caught.value)


def test_ones_own_is_used_before_and_after_it_is_there(home: Path) -> None:
    assert user_cache.folder("kernels") == f"{home}/.cache/corral/kernels"
    (home / ".cache" / "corral").mkdir(parents=True)
    user_cache._trusted.clear()
    assert user_cache.folder() == f"{home}/.cache/corral"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("whose", ["", ".cache", ".cache/corral"])
def test_root_does_not_use_somebody_elses(home: Path, whose: str) -> None:
    (home / ".cache" / "corral").mkdir(parents=True)
    os.chown(home / whose, OTHER, OTHER)
    assert f"{str(home / whose)!r} belongs to the user {OTHER}" in refusal()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_link_of_somebody_elses_leads_nowhere(home: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, OTHER, OTHER)
    (home / ".cache").symlink_to(theirs)
    assert f"{str(theirs)!r} belongs to" in refusal()


def test_what_every_user_may_write_is_not_used(home: Path) -> None:
    (home / ".cache" / "corral").mkdir(parents=True)
    (home / ".cache" / "corral").chmod(0o1777)
    assert "every user may write to" in refusal()
    (home / ".cache" / "corral").chmod(0o755)
    home.chmod(0o777)
    assert f"every user may write to {str(home)!r}" in refusal()
    home.chmod(0o1777)  # as /tmp has it: a folder of ours in it is ours
    assert user_cache.folder() == f"{home}/.cache/corral"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_command_says_so_and_writes_nothing(home: Path) -> None:
    planted, target = home / ".cache" / "corral" / "cloud-init", home / "precious"
    planted.mkdir(parents=True)
    target.write_text("precious")
    for path in (home, home / ".cache", home / ".cache" / "corral", planted):
        os.chown(path, OTHER, OTHER)
    command = [sys.executable, "-m", "corral", "boot", "--hostname", "web-1"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"belongs to the user {OTHER}" in done.stderr
    assert target.read_text() == "precious"
    assert list(planted.iterdir()) == []


def test_in_a_user_namespace_the_roots_owner_is_nobody(home: Path) -> None:
    """As in a container without root: / belongs to a user who is not in there."""
    script = "from corral import user_cache; print(user_cache.folder())"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script]
    if os.geteuid() == 0:  # else its own root would be that of the host
        command = ["unshare", "--user", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no user namespace to be had here")
    assert (done.stdout, done.stderr) == (f"{home}/.cache/corral\n", "")
