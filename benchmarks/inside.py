"""inside: a command in a guest that runs, against the same on the host; a byte echoed over vsock, against one over a
Unix socket of the host; bytes a second both ways; and the agent's memory. inside_peers.py has ssh, scp and runc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import inside_peers
from benchmarks.measure import interleaved, report
from corral.agent.command import Command, wanted
from corral.agent.connection import Connection
from corral.running import place
from corral.script.sandbox import Sandbox

ROUNDS, TIMES, MUCH = 9, 50, 100_000_000
AGENT = (
    "for p in /proc/[0-9]*; do grep -q '^Name:.agent' $p/status && grep -E '^(VmRSS|RssAnon)' $p/status && break; done"
)
PEER = Path(__file__).resolve().parents[1] / "tests" / "support" / "vsock_peer.c"
EXEC, NATIVE = "true in the guest, by its agent", "true on the host, fork and exec"
VSOCK, UNIX = "echo by a guest's program", "echo by a thread of the host"


def echo(one: socket.socket) -> None:
    with one:
        while data := one.recv(65536):
            one.sendall(data)


def round_trips(one: socket.socket) -> float:
    """Seconds for one, of many."""
    began = time.perf_counter()
    for _ in range(TIMES):
        one.sendall(b"x")
        one.recv(1)
    return (time.perf_counter() - began) / TIMES


def commands(path: str) -> float:
    began = time.perf_counter()
    for _ in range(TIMES):
        with Connection(path, time.monotonic() + 30) as connection:
            Command(connection, wanted(["true"]), lambda stream, data: None).wait()
    return (time.perf_counter() - began) / TIMES


def native() -> float:
    began = time.perf_counter()
    for _ in range(TIMES):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return (time.perf_counter() - began) / TIMES


def connected(path: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    one.sendall(b"CONNECT %d\n" % port)
    while one.recv(1) not in (b"\n", b""):
        pass
    return one


def main() -> bool:
    with Sandbox(memory="256M") as box, tempfile.TemporaryDirectory() as folder:
        peer = Path(folder) / "peer"
        subprocess.run(["gcc", "-static", "-O2", PEER, "-o", peer], check=True)
        box.files.upload(peer, "/tmp/peer")
        box.run("(setsid /tmp/peer listen 7 >/dev/null 2>&1 &); sleep 0.3")
        path = os.path.join(place.folder(box.name), place.VSOCK)
        ours, theirs = socket.socketpair()
        threading.Thread(target=echo, args=(theirs,), daemon=True).start()
        one = connected(path, 7)
        report("a command", interleaved({EXEC: lambda: commands(path), NATIVE: native}, ROUNDS), NATIVE)
        report("a byte", interleaved({VSOCK: lambda: round_trips(one), UNIX: lambda: round_trips(ours)}, ROUNDS), UNIX)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{path}_92")
            server.listen()
            process = box.popen(["/tmp/peer", "flood", "92", str(MUCH)])
            stream, _ = server.accept()
            began, left = time.perf_counter(), MUCH
            while left:
                left -= len(stream.recv(1 << 20))
            print(f"  from the guest {MUCH / 1e6 / (time.perf_counter() - began):.0f} MB/s")
            process.close()
        echoes = connected(path, 7)
        began, left = time.perf_counter(), MUCH
        sender = threading.Thread(target=lambda: echoes.sendall(bytes(MUCH)))
        sender.start()
        while left:
            left -= len(echoes.recv(1 << 20))
        print(f"  to the guest and back {MUCH / 1e6 / (time.perf_counter() - began):.0f} MB/s")
        agent = box.run(AGENT).stdout
        print(f"  the agent: {' '.join(agent.split())}")
    return inside_peers.main()


if __name__ == "__main__":
    sys.exit(not main())
