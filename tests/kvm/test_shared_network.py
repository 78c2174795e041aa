"""--net shared=NAME: guests that find each other by name, containers too."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.guests import initramfs
from tests.support.named_guest import Guests, skip_without_kernel

SERVES = "mkdir -p /www; echo served >/www/name; httpd -f -h /www -p 80"
ASKS = "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{}/name && exit 0; sleep 0.2; done; exit 1"


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


@pytest.fixture
def guests() -> Iterator[Guests]:
    made = Guests(Path(tempfile.mkdtemp(prefix="n")))  # short: sockets have a path in there
    yield made
    made.close()
    shutil.rmtree(made.folder.parent)


def test_two_find_each_other_and_one_that_is_restored_has_no_link(guests: Guests) -> None:
    guests.boot("web", "--net", "shared=net", "--", SERVES)
    guests.boot("asks", "--net", "shared=net")
    assert guests.exec("asks", ASKS.format("web")).stdout == b"served\n"
    saved = guests.folder / "saved"
    assert guests.run("snapshot", "asks", str(saved)).returncode == 0
    done = guests.run("boot", "--restore", str(saved), "--net", "shared=net")
    assert (done.returncode, b"would keep its address" in done.stderr) == (2, True), done.stderr
    guests.boot("again", "--restore", str(saved))  # without a link
    assert guests.exec("asks", ASKS.format("web")).stdout == b"served\n"
    done = guests.run("boot", "--name", "other", "--net", "shared=else", "--", ASKS.format("web"), timeout=60)
    assert done.returncode != 0  # a network of its own


def test_a_name_that_another_has_is_told_before_anything_boots(guests: Guests) -> None:
    guests.boot("web", "--net", "shared=net")
    done = guests.run("boot", "--hostname", "web", "--net", "shared=net", "debian")
    assert (done.returncode, b"a guest there has this name" in done.stderr) == (2, True), done.stderr


def test_a_container_reaches_another_by_its_name_beside_a_port_of_its_own(guests: Guests, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(initramfs.busybox())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "httpd", "mkdir", "hostname", "wget", "sleep", "cat", "ip"):
        (root / "bin" / name).symlink_to("busybox")
    done = guests.run("run", "-d", "--name", "db", "--net", "shared=net", str(root), "sh", "-c", SERVES)
    assert done.returncode == 0, done.stderr
    done = guests.run("run", "--net", "shared=net", str(root), "sh", "-c", ASKS.format("db"))
    assert (done.returncode, done.stdout) == (0, b"served\n"), done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        words = ("--net", "shared=net", "--publish", f"{free.getsockname()[1]}:80")
    done = guests.run("run", *words, str(root), "sh", "-c", f"cat /etc/resolv.conf; {ASKS.format('db')}")
    assert done.stdout == b"nameserver 10.77.0.1\nnameserver 10.0.2.3\nserved\n", done.stderr


def test_nothing_is_left_when_the_last_has_ended(guests: Guests) -> None:
    guests.boot("web", "--net", "shared=net")
    assert guests.run("kill", "web").returncode == 0
    folder = guests.folder / "corral-networks"
    end = time.monotonic() + 20
    while any(folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
