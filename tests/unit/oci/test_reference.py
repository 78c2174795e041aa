"""Names of images, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import ConfigError
from corral.oci.reference import parse

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("docker.io/python:3.12", "docker.io/library/python:3.12"),
        ("index.docker.io/library/python", "docker.io/library/python:latest"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"ghcr.io/x/y@{DIGEST}", f"ghcr.io/x/y@{DIGEST}"),
        (f"ghcr.io/x/y:1@{DIGEST}", f"ghcr.io/x/y:1@{DIGEST}"),
        ("docker://quay.io/a__b/c-d.e", "quay.io/a__b/c-d.e:latest"),
        ("containers-storage:localhost/x:1", "containers-storage:localhost/x:1"),
        ("docker-daemon:x:1", "docker-daemon:x:1"),
        ("oci:/no/such:v1", "oci:/no/such:v1"),
        ("oci-archive:/no/such.tar", "oci-archive:/no/such.tar"),
        ("docker-archive:/no/such.tar:a:1", "docker-archive:/no/such.tar:a:1"),
    ],
)
def test_all_ways_to_write_a_name(written: str, whole: str) -> None:
    assert parse(written).name == whole


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "empty"),
        ("a\nb", "cannot be shown"),
        ("x" * 2000, "too long"),
        ("Python", "small letters"),
        ("a//b", "not the name"),
        ("-a", "not the name"),
        ("a:", "not a tag"),
        ("a:b:c", "not a tag"),
        ("a:" + "t" * 129, "not a tag"),
        ("a@sha256:12", "a digest is"),
        ("a@md5:" + "0" * 64, "a digest is"),
        ("oci:", "has to follow"),
        ("dir:/tmp", "by its path alone"),
        ("ex_ample.org:x/y", "not the name of a registry"),
        ("--help", "not the name"),
    ],
)
def test_what_is_no_name(written: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse(written)
    assert str(caught.value).isprintable()


def test_paths_are_told_from_tags_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "file.tar").touch()
    monkeypatch.chdir(tmp_path)
    assert (parse("oci:a:b").place, parse("oci:a:b").tag) == (str(tmp_path / "a:b"), "")
    assert (parse("oci:a:b:c").place, parse("oci:a:b:c").tag) == (str(tmp_path / "a:b"), "c")
    found = parse("docker-archive:file.tar:localhost:5000/x:1")
    assert (found.place, found.tag) == (str(tmp_path / "file.tar"), "localhost:5000/x:1")
    assert parse("./a:b").place == str(tmp_path / "a:b")
    with pytest.raises(ConfigError, match=r"docker-archive:\./file\.tar"):
        parse("./file.tar")
