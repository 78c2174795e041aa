"""Clones with network cards: each is connected by its own, and none has what another has."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.named_guest import skip_without_kernel
from tests.support.path_server import serving

LONG = 120.0


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with serving() as port:
        yield port


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=LONG, check=False)


def free_ports() -> int:
    """The first of two."""
    while True:
        with socket.socket() as tried, socket.socket() as next_one:
            tried.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError, OverflowError):
                next_one.bind(("127.0.0.1", tried.getsockname()[1] + 1))
                return int(tried.getsockname()[1])


def snapshot(path: Path, *words: str) -> None:
    saved = run("snapshot", str(path), "--", "boot", "--memory", "256M", *words)
    assert saved.returncode == 0, saved.stderr


def test_clones_are_connected_each_by_its_own(server: int, tmp_path: Path) -> None:
    path = tmp_path / "net.snapshot"
    snapshot(path, "--net")
    script = f"wget -q -O - http://10.0.2.2:{server}/$(hostname)"
    done = run("clone", str(path), "-n", "3", "--net", "--", script)
    assert sorted(done.stdout.splitlines()) == ["1: /corral-1", "2: /corral-2", "3: /corral-3"], done.stderr
    done = run("clone", str(path), "-n", "2", "--net", "--deny", "host", "--", f"timeout 2 {script} || echo none")
    assert sorted(done.stdout.splitlines()) == ["1: none", "2: none"], done.stderr


def test_published_ports_of_clones_count_up(tmp_path: Path) -> None:
    path, first = tmp_path / "net.snapshot", free_ports()
    snapshot(path, "--net")
    script = "mkdir /tmp/w && hostname >/tmp/w/index.html && httpd -f -h /tmp/w"
    words = ("clone", str(path), "-n", "2", "--timeout", "60", "--net", "--publish", f"{first}:80", "--", script)
    command = [sys.executable, "-m", "corral", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as clones:
        said = []
        for port in first, first + 1:
            said.append(asked(port))
        clones.terminate()
    assert said == ["corral-1\n", "corral-2\n"]


def asked(port: int) -> str:
    """What a server behind a published port says, once it is there: passt takes connections before."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer,
        ):
            return str(answer.read().decode())
        time.sleep(0.05)
    raise AssertionError(f"nothing at {port}")


def test_clones_at_taps_have_addresses_of_their_own(tmp_path: Path) -> None:
    """In a network namespace of the test's own."""
    if os.geteuid():
        pytest.skip("only root makes taps")
    corral = f"{sys.executable} -m corral"
    script = f"""
for i in 1 2 9; do ip tuntap add dev tap$i mode tap && ip link set tap$i up; done
{corral} snapshot {tmp_path}/tap.snapshot -- boot --memory 256M --net tap=tap9,mac=02:00:00:00:00:ff,ip=10.8.0.9/24 >&2
{corral} clone {tmp_path}/tap.snapshot -n 2 --net 'tap=tap{{n}},ip=10.8.0.1/24' -- '
cat /sys/class/net/eth0/address; ip -4 addr show eth0 | grep -c "inet 10.8.0.[12]/24"'
"""
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=LONG)
    lines = ["1: 02:00:00:00:00:ff", "1: 1", "2: 02:00:00:00:01:00", "2: 1"]
    assert sorted(done.stdout.splitlines()) == lines, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--net", "tap=x,ip=10.0.0.1/24"), "2 clones cannot share it; {n} in its name"),
        (("--net", "tap=x{n}"), "an address of its own; the first's is ,ip="),
        (("--net", "tap=x{n},ip=10.0.0.254/24"), "its network has no address for clone 2"),
        (("--net",), "has --net tap; give it the same"),
    ],
)
def test_what_clones_cannot_share_is_one_line(tap_snapshot: Path, words: tuple[str, ...], said: str) -> None:
    done = run("clone", str(tap_snapshot), "-n", "2", *words, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


@pytest.fixture(scope="module")
def tap_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a guest with a tap."""
    if os.geteuid():
        pytest.skip("only root makes taps")
    path = tmp_path_factory.mktemp("tap") / "tap.snapshot"
    words = f"{sys.executable} -m corral snapshot {path} -- boot --memory 256M --net tap=tap0,ip=10.8.0.9/24"
    script = f"ip tuntap add dev tap0 mode tap && ip link set tap0 up && {words}"
    subprocess.run(["unshare", "--net", "sh", "-c", script], check=True, timeout=LONG)
    return path
