"""`corral boot --net` as its users have it: a guest reaches this host's servers, and is reached, within its rules."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel

BOOT = ("boot", "--timeout", "100", "--fresh")
LONG = 120.0
BIG = 30 << 20


class Server(BaseHTTPRequestHandler):
    """/big is BIG bytes; anything else is its own path; what is posted is answered with its size."""

    def do_GET(self) -> None:
        size = BIG if self.path == "/big" else len(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for at in range(0, size, 1 << 20):
            self.wfile.write(bytes(min(1 << 20, size - at)) if self.path == "/big" else self.path.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    initramfs.path()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of one on this host's loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd.server_address[1]
        httpd.shutdown()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def run(*words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, input=input, capture_output=True, text=True, timeout=LONG, check=False)


def boot(*words: str) -> subprocess.CompletedProcess[str]:
    return run(*BOOT, *words)


def started(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "corral", *BOOT, *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True)


def passt_of(port: int) -> list[str]:
    """The passt processes that publish a port; other tests and users have theirs."""
    done = subprocess.run(["pgrep", "-f", f"passt.*[/ ,]{port}:"], capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_a_guest_has_an_address_a_route_and_a_resolver(server: int) -> None:
    done = boot("--net", "--", "ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf; ip -o link show lo")
    assert done.returncode == 0, done.stderr
    for said in ("10.0.2.15/24", "default via 10.0.2.2 dev eth0", "nameserver 10.0.2.3", "LOOPBACK,UP"):
        assert said in done.stdout, done.stdout


def test_a_guest_fetches_from_this_host(server: int) -> None:
    at = f"http://10.0.2.2:{server}"
    done = boot("--net", "--", f"wget -q -O - {at}/hello; wget -q -O - {at}/big | wc -c")
    assert (done.returncode, done.stdout) == (0, f"/hello{BIG}\n"), done.stderr


def test_without_net_there_is_no_card() -> None:
    done = boot("--", "ls /sys/class/net")
    assert "eth0" not in done.stdout


def test_a_published_port_is_the_guests(tmp_path: Path) -> None:
    """Of TCP and of UDP; nothing is left of passt when the guest has ended."""
    tcp, udp, dump = free_port(), free_port(socket.SOCK_DGRAM), tmp_path / "frames"
    words = ["--net", "--publish", f"{tcp}:80", "--publish", f"{udp}:5353/udp", "--net-dump", str(dump), "--"]
    page, end = b"", time.monotonic() + 60
    with started(*words, "echo served >/tmp/page; httpd -f -p 80 -h /tmp") as guest:
        while b"served" not in page and time.monotonic() < end and guest.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", tcp), timeout=5) as line:
                    line.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                    page = b"".join(iter(partial(line.recv, 4096), b""))
            except OSError:
                time.sleep(0.1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            while b"a datagram" not in dump.read_bytes() and time.monotonic() < end:
                datagrams.sendto(b"a datagram", ("127.0.0.1", udp))
                time.sleep(0.2)
        guest.terminate()
        output, errors = guest.communicate(timeout=LONG)
    assert b"served" in page, output + errors
    assert b"a datagram" in dump.read_bytes()
    deadline = time.monotonic() + 5
    while passt_of(tcp) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not passt_of(tcp)


def test_a_port_that_is_taken_is_told_before_anything_starts(server: int) -> None:
    done = boot("--publish", f"{server}:80", "--", "true")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("corral: --publish: 127.0.0.1:")


def test_an_address_by_dhcp() -> None:
    """What a guest without Corral's init does."""
    script = "ip addr flush dev eth0; udhcpc -i eth0 -n -q -s /bin/true 2>&1 | grep -E 'lease of 10.0.2.15'"
    done = boot("--net", "--", script)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_hold_for_a_guest(server: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        denied = other.server_address[1]
        fetch = (
            f"timeout 3 wget -q -O - http://10.0.2.2:{server}/in; timeout 3 wget -q -O - http://10.0.2.2:{denied}/out"
        )
        allows = boot("--net", "--allow", f"host:{server}", "--stats", "--", f"{fetch}; true")
        denies = boot("--net", "--deny", f"host:{denied}", "--", f"{fetch}; true")
        other.shutdown()
    assert allows.stdout == "/in", allows.stderr
    assert denies.stdout == "/in", denies.stderr
    assert " 0 filtered" not in allows.stderr


def test_a_dump_has_what_was_fetched(server: int, tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    done = boot("--net", "--net-dump", str(path), "--", f"wget -q -O - http://10.0.2.2:{server}/marked-by-the-test")
    assert done.returncode == 0, done.stderr
    data = path.read_bytes()
    assert data.startswith(b"\n\r\r\n")
    assert b"GET /marked-by-the-test HTTP" in data
    assert struct.unpack_from("<I", data, 28)[0] == 1


def test_two_guests_on_one_wire(tmp_path: Path) -> None:
    path = str(tmp_path / "wire")
    # nc ends with the other's end, whether it has sent all or not: the one that listens says nothing before it has all,
    # and its guest stays until the other one is gone.
    answer = "nc -l -p 7 -e tr a-z A-Z; while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done"
    first = ("--net", f"socket={path},listen,ip=10.9.0.1/24", "--", answer)
    second = "for i in 1 2 3 4 5 6 7 8 9; do echo over the wire | nc 10.9.0.1 7 && break; sleep 0.3; done"
    with started(*first) as guest:
        deadline = time.monotonic() + 30
        while not os.path.exists(path) and time.monotonic() < deadline and guest.poll() is None:
            time.sleep(0.05)
        done = boot("--net", f"socket={path},ip=10.9.0.2/24", "--", second)
        output, errors = guest.communicate(timeout=LONG)
    assert (guest.returncode, done.stdout) == (0, "OVER THE WIRE\n"), output + errors + done.stderr


def test_a_guest_whose_passt_has_ended_is_told_so() -> None:
    script = "echo up; while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done; echo gone"
    port = free_port()
    with started("--publish", f"{port}:80", "--", script) as guest:
        assert guest.stdout
        assert guest.stdout.readline() == "up\n"
        subprocess.run(["kill", *passt_of(port)], check=False)
        output, errors = guest.communicate(timeout=LONG)
    assert (guest.returncode, output) == (0, "gone\n"), errors
    assert "net 0: its other end, passt, was gone before the guest" in errors


def test_a_tap_of_this_host() -> None:
    """In a network namespace of the test's own; the host's end has segments made and checksums left to it."""
    if os.geteuid():
        pytest.skip("only root makes taps")
    script = f"""
ip link set lo up; ip tuntap add dev corral0 mode tap && ip addr add 10.8.0.1/24 dev corral0 && ip link set corral0 up
{sys.executable} -c '
import socket
with socket.create_server(("10.8.0.1", 80)) as server:
    line = server.accept()[0]
    line.sendall(bytes({BIG}))
    line.close()
    line, size = server.accept()[0], 0
    while size < {BIG}:
        size += len(line.recv(1 << 20))
    line.sendall(str(size).encode())
' 2>/dev/null &
server=$!
sleep 1
{sys.executable} -m corral {" ".join(BOOT)} --stats --net tap=corral0,ip=10.8.0.2/24 -- '
nc 10.8.0.1 80 | wc -c
head -c {BIG} /dev/zero | nc 10.8.0.1 80'
kill $server
"""
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=LONG)
    assert done.stdout == f"{BIG}\n{BIG}", done.stdout + done.stderr


def test_a_tap_that_is_missing_is_one_line() -> None:
    done = boot("--net", "tap=nosuchtap0", "--", "true")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "ip tuntap add dev nosuchtap0 mode tap" in done.stderr


def test_a_snapshot_is_connected_by_who_restores_it(server: int, tmp_path: Path) -> None:
    """Not by the file: without --net its card has no link."""
    path = str(tmp_path / "net.snapshot")
    saved = run("snapshot", "--after", "# ", path, "--", "boot", "--net")
    assert saved.returncode == 0, saved.stderr
    script = f"cat /sys/class/net/eth0/carrier; timeout 5 wget -q -O - http://10.0.2.2:{server}/restored; exit\n"
    for words, expected in (["--net"], "/restored"), ([], "0"):
        done = run("boot", "--timeout", "60", "--restore", path, *words, input=script)
        assert expected in done.stdout, done.stdout + done.stderr
    done = run("boot", "--restore", path, "--net", "tap=x")
    assert done.returncode == 2
    assert "has --net user" in done.stderr
