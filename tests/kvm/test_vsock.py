"""virtio-vsock with Linux's own driver: programs of guest and host are connected both ways."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.named_guest import Guests, skip_without_kernel

SOURCE = Path(__file__).parents[1] / "support" / "vsock_peer.c"


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With the guest `v`, which has the program in /tmp/peer; it echoes at port 7."""
    skip_without_kernel()
    folder = tmp_path_factory.mktemp("v")
    peer = folder / "peer"
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", peer], check=True)
    guests = Guests(folder)
    guests.boot("v", "--memory", "256M")
    assert guests.run("cp", str(peer), "v:/tmp/peer").returncode == 0
    guests.exec("v", "(setsid /tmp/peer listen 7 >/dev/null 2>&1 &); sleep 0.2")
    yield guests
    guests.close()


def path(guests: Guests) -> str:
    return str(guests.folder / "corral" / "v" / "vsock")


def connected(guests: Guests, port: int) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(30)
    one.connect(path(guests))
    one.sendall(b"CONNECT %d\n" % port)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = one.recv(1)
        assert piece, "refused"
        answer += piece
    assert answer.startswith(b"OK ")
    return one


def test_a_megabyte_is_echoed_and_the_end_comes_back(guests: Guests) -> None:
    data = random.Random(5).randbytes(1 << 20)
    with connected(guests, 7) as one:

        def send() -> None:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        while piece := one.recv(1 << 16):
            got += piece
        sender.join()
    assert got == data


def test_nobody_listens_in_the_guest(guests: Guests) -> None:
    with pytest.raises(AssertionError, match="refused"):
        connected(guests, 8)


def test_a_program_of_the_guest_reaches_the_host(guests: Guests) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path(guests)}_90")
        server.listen()
        server.settimeout(30)

        def answer() -> None:
            one, _ = server.accept()
            with one:
                said = b""
                while piece := one.recv(64):
                    said += piece
                one.sendall(said.upper())

        serving = threading.Thread(target=answer)
        serving.start()
        done = guests.exec("v", "/tmp/peer connect 90", input=b"hello")
        serving.join()
    assert (done.returncode, done.stdout) == (0, b"HELLO")


def test_nobody_listens_on_the_host(guests: Guests) -> None:
    done = guests.exec("v", "/tmp/peer connect 91 </dev/null")
    assert (done.returncode, b"reset" in done.stderr) == (1, True)


def test_much_from_the_guest_to_a_program_that_reads_slowly(guests: Guests) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path(guests)}_92")
        server.listen()
        server.settimeout(30)
        process = guests.start("exec", "v", "--", "/tmp/peer flood 92 20000000")
        one, _ = server.accept()
        count, digest = 0, hashlib.sha256()
        with one:
            while piece := one.recv(10_000):
                count += len(piece)
                digest.update(piece)
        process.communicate(timeout=60)
    assert (count, process.returncode) == (20_000_000, 0)
    assert digest.hexdigest() == hashlib.sha256(bytes(20_000_000)).hexdigest()


def test_five_hundred_connections_at_once(guests: Guests) -> None:
    many = [connected(guests, 7) for _ in range(500)]
    for number, one in enumerate(many):
        one.sendall(b"%d" % number)
    assert [one.recv(64) for one in many] == [b"%d" % number for number in range(500)]
    for one in many:
        one.close()


def test_a_guest_without_a_name_has_it_too(tmp_path: Path) -> None:
    sock = tmp_path / "v"
    done = subprocess.run(
        [sys.executable, "-m", "corral", "boot", "--vsock", f"{sock},cid=9", "--", "ls /sys/bus/virtio/devices"],
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.split()) == (0, [b"virtio0", b"virtio1"]), done.stderr
    assert not sock.exists()
