"""What `corral boot debian` tells a user who is not root before anything is fetched."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import debian, distribution_build, user_namespace

USER = "daemon"  # on every host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One on which all is well."""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setattr(os, "getuid", lambda: pwd.getpwnam(USER).pw_uid)
    for folder in ("kernel", "user"):
        (tmp_path / folder).mkdir()
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"other:100000:65536\n{USER}:165536:65536\n")
    (tmp_path / "user" / "max_user_namespaces").write_text("31000\n")
    return tmp_path


def require(host: Path) -> None:
    user_namespace.require(str(host), str(host))


def test_a_host_that_has_all_of_it(host: Path) -> None:
    require(host)
    assert user_namespace.packages() == ["uidmap"]


def test_ids_may_be_given_to_a_number(host: Path) -> None:
    (host / "subuid").write_text(f"{pwd.getpwnam(USER).pw_uid}:100000:65536\n")
    require(host)


@pytest.mark.parametrize("name", ["subuid", "subgid"])
@pytest.mark.parametrize("content", ["", "other:100000:65536\n", f"{USER}:100000:0\n", f"{USER}\n", None])
def test_a_user_without_ids(name: str, content: str | None, host: Path) -> None:
    if content is None:
        (host / name).unlink()
    else:
        (host / name).write_text(content)
    with pytest.raises(HostError, match=rf"usermod --add-subuids \S+ --add-subgids \S+ {USER}$"):
        require(host)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel/unprivileged_userns_clone", "0"),
        ("user/max_user_namespaces", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_a_host_that_forbids_user_namespaces(name: str, value: str, host: Path) -> None:
    (host / name).write_text(f"{value}\n")
    with pytest.raises(HostError, match=name.replace("/", ".")):
        require(host)


def test_root_needs_none_of_it(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (host / "subuid").unlink()
    require(host)
    assert user_namespace.packages() == []


def test_a_missing_package_is_named_before_anything_is_fetched(
    host: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a host without uidmap has it: that package is told of, with the others."""
    wanted: list[str] = []

    def require_installed(packages: list[str], what_for: str) -> None:
        wanted.extend(packages)
        raise HostError(what_for)

    monkeypatch.setattr(debian, "require_installed", require_installed)
    with pytest.raises(HostError, match="making a root file system"):
        distribution_build.build("debian", "bookworm", False, str(tmp_path / "into"), lambda text: None)
    assert wanted == ["mmdebstrap", "e2fsprogs", "uidmap"]


@pytest.mark.parametrize(
    ("ids", "program", "mode"),
    [("root:100000:65536\n", True, "unshare"), ("root:100000:65536\n", False, "auto"), ("", True, "auto")],
)
def test_root_is_in_a_namespace_where_it_can_have_one(
    host: Path, monkeypatch: pytest.MonkeyPatch, ids: str, program: bool, mode: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: name if program else None)
    for name in ("subuid", "subgid"):
        (host / name).write_text(ids)
    assert user_namespace.mmdebstrap_mode(str(host), str(host)) == mode


def test_others_are_in_one_in_any_case(host: Path) -> None:
    assert user_namespace.mmdebstrap_mode(str(host), str(host)) == "unshare"
