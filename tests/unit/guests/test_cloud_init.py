"""What a seed disk is made of, and what is refused; the disk itself is test_iso9660's and the nested host's."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.errors import BootError, ConfigError
from corral.guests import cloud_init

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDUMMY someone@somewhere"
CONFIG = b"#cloud-config\npackages:\n  - vim\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "file"
    path.write_bytes(content)
    return str(path)


def test_what_is_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"# mine\n\n{KEY}\n")
    path = cloud_init.disk(save(tmp_path, CONFIG), "web-1.example.org", str(tmp_path / "key.pub"))
    data = Path(path).read_bytes()
    assert CONFIG in data
    assert b'local-hostname: "web-1.example.org"\npublic-keys:\n  - "' + KEY.encode() + b'"\n' in data
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_same_input_is_the_same_instance_and_other_input_another(tmp_path: Path) -> None:
    first = cloud_init.disk(save(tmp_path, CONFIG), "a")
    assert cloud_init.disk(save(tmp_path, CONFIG), "a") == first
    images = {cloud_init.image(CONFIG, name, keys) for name in (None, "a", "b") for keys in ([], [KEY])}
    instances = {image[image.index(b"instance-id") :].partition(b"\n")[0] for image in images}
    assert len(instances) == 6


def test_a_name_and_nothing_else() -> None:
    assert b"#cloud-config\n{}\n" in Path(cloud_init.disk(None, "a")).read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        CONFIG,
        b"#!/bin/sh\n\techo tabs are fine here\n",
        b"#include\nhttps://example.org\n",
        b"Content-Type: multipart/mixed\n",
        gzip.compress(b"any"),
    ],
)
def test_what_cloud_init_takes(tmp_path: Path, data: bytes) -> None:
    assert cloud_init.read_user_data(save(tmp_path, data)) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"packages: [vim]\n", "begins with none of #cloud-config"),
        (b"\n#cloud-config\n", "begins with none of #cloud-config"),
        (b"\xef\xbb\xbf#cloud-config\n", "begins with none of #cloud-config"),
        (b"#cloud-config packages: [vim]\n", "more than #cloud-config in its first line"),
        (b"#cloud-config\nusers:\n\t- me\n", "indented with a tab in line 3"),
        (b"#cloud-config\n  \t- me\n", "indented with a tab in line 2"),
        (b"\xff\xfe#\0", "neither text in UTF-8 nor gzip"),
        (b"", "is empty"),
        (b"#!" + bytes(cloud_init.MAX_SIZE), "larger than 16 MiB"),
    ],
)
def test_what_cloud_init_would_ignore(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message) as caught:
        cloud_init.disk(save(tmp_path, data))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key"),
        (b"# nothing\n", "no public key in it"),
        (b"hello world\n", "is no public key"),
        (b"ssh-rsa\n", "is no public key"),
        (b"ssh-rsa not-base64\n", "is no public key"),
        (b"ssh-rsa AAAAB\x1b[2J\n", "is no public key"),
        (b"\xff" * 2000, "is no public key"),
        (b"a" * (2 << 20), "larger than 1 MiB"),
    ],
)
def test_bad_keys(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message) as caught:
        cloud_init.disk(None, None, save(tmp_path, data))
    assert str(caught.value).isprintable()


def test_keys_with_options_and_of_hardware(tmp_path: Path) -> None:
    keys = [f'no-pty,command="a b" {KEY}', "sk-ssh-ed25519@openssh.com AAAAGnNr", "ecdsa-sha2-nistp256 AAAAE2Vj me"]
    assert cloud_init.read_keys(save(tmp_path, "\n".join(keys).encode())) == keys


@pytest.mark.parametrize(
    "name", ["", ".", "a.", "-a", "a-", "a_b", "a b", "ä", "a" * 64, "a\n", "a." * 127 + "ab", "x: y"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        cloud_init.disk(None, name)


@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"", b"#cloud-config", b"ssh-rsa AAAA", b"#!"]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_taken_or_refused_in_one_line(tmp_path: Path, data: bytes, before: bytes) -> None:
    path = save(tmp_path, before + data)
    for words in ((path, None, None), (None, None, path)):
        message = ""
        try:
            cloud_init.disk(*words)
        except BootError as error:
            message = str(error)
        assert message.isprintable()
