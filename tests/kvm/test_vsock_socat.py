"""socat, as it comes, is a peer on both sides of a vsock: VSOCK-CONNECT and VSOCK-LISTEN in a guest that looks like
this host, and on the host a client by Firecracker's convention."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import host
from tests.support.named_guest import Guests

LINES = b"".join(b"line %d\n" % number for number in range(5000))


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With the guest `like`, which has the host's socat."""
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed: apt-get install socat")
    try:
        host.mounts(Path("/proc/self/mountinfo").read_text())
    except HostError as error:
        pytest.skip(str(error))
    host.get()
    guests = Guests(tmp_path_factory.mktemp("s"))
    guests.boot("like", "host", "--memory", "512M")
    yield guests
    guests.close()


def test_from_the_guest(guests: Guests) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(guests.folder / "corral" / "like" / "vsock_93"))
        server.listen()
        server.settimeout(60)

        def answer() -> None:
            one, _ = server.accept()
            with one:
                said = b""
                while piece := one.recv(1 << 16):
                    said += piece
                one.sendall(said.upper())

        serving = threading.Thread(target=answer)
        serving.start()
        done = guests.exec("like", "socat -t 30 - VSOCK-CONNECT:2:93", input=LINES)
        serving.join()
    assert (done.returncode, done.stdout) == (0, LINES.upper()), done.stderr


def is_taken(path: Path) -> bool:
    """Whether somebody listens in the guest by now."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        one.sendall(b"CONNECT 94\n")
        return one.recv(3) == b"OK "


def test_to_the_guest(guests: Guests) -> None:
    guests.exec("like", "(setsid socat VSOCK-LISTEN:94,fork EXEC:'tr a-z A-Z' >/dev/null 2>&1 &)")
    path = guests.folder / "corral" / "like" / "vsock"
    end = time.monotonic() + 30
    while not is_taken(path):
        assert time.monotonic() < end
        time.sleep(0.05)
    client = ["socat", "-t", "30", "-", f"UNIX-CONNECT:{path}"]
    for _ in range(3):
        done = subprocess.run(client, input=b"CONNECT 94\n" + LINES, capture_output=True, timeout=60, check=True)
        assert done.stdout.startswith(b"OK ")
        assert done.stdout.partition(b"\n")[2] == LINES.upper()
