"""Snapshots through s3://, against a server of the S3 protocol in a process of its own (moto's).

`make store` installs it and s3fs in a folder of the cache, CORRAL_S3.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stored import family, goes_on

LONG = 120.0
TEXT = random.Random(5).randbytes(400_001)
START = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client."""
    packages = os.environ.get("CORRAL_S3")
    assert packages, "these tests want s3fs and moto in the folder CORRAL_S3; run: make store"
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as said:
        environment = os.environ | {"PYTHONPATH": packages, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=said, stderr=said)
    try:
        end = time.monotonic() + 60
        while "Running on http://" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        url = "http://" + log.read_text().partition("Running on http://")[2].split()[0]
        urllib.request.urlopen(urllib.request.Request(f"{url}/guests", method="PUT")).close()
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
        yield os.environ | keys | {"AWS_ENDPOINT_URL": url, "PYTHONPATH": packages}
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return family(tmp_path_factory.mktemp("stored"), TEXT)


def corral(environment: dict[str, str], cache: Path, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "corral", *words],
        capture_output=True,
        text=True,
        timeout=LONG,
        env=environment | {"XDG_CACHE_HOME": str(cache)},
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def sent(text: str) -> int:
    return int(text.split(": ")[1].split()[0])


def test_there_and_back(server: dict[str, str], saved: tuple[Path, Path], tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    first = sent(corral(server, here, "snapshot", "push", str(saved[0]), "s3://guests/a/one"))
    child = sent(corral(server, here, "snapshot", "push", str(saved[1]), "s3://guests/a/child"))
    assert 0 < child < first / 3
    listed = corral(server, here, "snapshot", "list", "s3://guests/a").splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "child", "one"]
    assert sent(corral(server, there, "snapshot", "pull", "s3://guests/a/one", str(tmp_path / "one"))) >= first
    assert sent(corral(server, there, "snapshot", "pull", "s3://guests/a/child", str(tmp_path / "child"))) == child
    assert (tmp_path / "one").read_bytes() == saved[0].read_bytes()
    assert goes_on(str(tmp_path / "child")) == bytes([TEXT[0] ^ 1])
    corral(server, here, "snapshot", "rm", "s3://guests/a/child")
    assert corral(server, here, "snapshot", "prune", "s3://guests/a") == f"removed {child} chunks\n"
    assert (
        sent(corral(server, tmp_path / "new", "snapshot", "pull", "s3://guests/a/one", str(tmp_path / "one"))) >= first
    )


def test_a_guest_goes_on_from_there(server: dict[str, str], saved: tuple[Path, Path], tmp_path: Path) -> None:
    corral(server, tmp_path, "snapshot", "push", str(saved[0]), "s3://guests/b/one")
    said = corral(server, tmp_path, "boot", "--restore", "s3://guests/b/one", "--timeout", "1", status=124)
    assert "did not end within 1 s" in said
    assert len(list((tmp_path / "corral/snapshots").glob("*/guest"))) == 1


def test_what_is_wrong_is_one_line(server: dict[str, str], saved: tuple[Path, Path], tmp_path: Path) -> None:
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    for words, changes, status, text in (
        (("snapshot", "pull", "s3://guests/c/nothing", str(tmp_path / "x")), {}, 2, "there is no snapshot"),
        (("boot", "--restore", "s3://guests/c/one"), nowhere, 3, "check its name, keys and network"),
    ):
        said = corral(server | changes, tmp_path, *words, status=status)
        assert text in said
        assert said.count("\n") == 1
    said = corral(server, tmp_path, "snapshot", "push", str(saved[0]), "s3://no-such-bucket/c/one", status=3)
    assert said.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_store_that_stands_still_holds_up_no_stop(server: dict[str, str], tmp_path: Path) -> None:
    """A server that takes connections and says nothing: Ctrl-C ends both commands within a second or so."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        environment = server | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        for words in (("snapshot", "list", "s3://guests/d"), ("boot", "--restore", "s3://guests/d/one")):
            command: Any = [sys.executable, "-m", "corral", *words]
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
                mute.accept()
                time.sleep(0.5)
                before = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) in (143, -signal.SIGTERM)
                assert time.monotonic() - before < 10  # far below what s3fs would wait
