"""Clients of Firecracker from PyPI, unmodified, drive Corral: they start /usr/local/bin/firecracker, keep their files
in /var/lib/firecracker, make tap devices, and ask Docker for its version: all in namespaces of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel, programs
from tests.support.named_guest import skip_without_kernel

CLIENTS = ("hysn-firecracker-python", "firecracker-python")
DOCKER = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ApiVersion": "1.41", "Version": "1"}')
    def address_string(self):
        return ""
    def log_message(self, *words):
        pass
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""
EXECUTE = """
import sys, time
from corral.agent.command import RunningCommand, Wanted
from corral.agent.connection import Connection
from corral.core import waiting
with Connection(sys.argv[1], time.monotonic() + 60) as connection:
    one = RunningCommand(connection, Wanted(line=sys.argv[2]), lambda stream, data: sys.stdout.write(data.decode()))
    one.give(b"")
    while one.end is None:
        waiting.wait_for({one.fileno(): 1})
        one.serve()
"""
# The client's world: what it writes and starts is in mounts that go with the namespace.
WORLD = """
set -e
mkdir "$1/bin"
mount --bind /usr/local/bin "$1/bin"
mount -t tmpfs none /usr/local/bin
for program in "$1"/bin/*; do ln -s "$program" /usr/local/bin/; done
ln -sf "$2" /usr/local/bin/firecracker
mount -t tmpfs none /var/lib
mkdir /var/lib/firecracker
ip link set lo up
ip tuntap add eth0 mode tap
ip address add 10.99.0.2/24 dev eth0
ip link set eth0 up
ip route add default via 10.99.0.1
"$3" -c "$DOCKER" "$1/docker" &
docker=$!
trap 'kill $docker' EXIT
DOCKER_HOST=unix://$1/docker "$4" "$5" "$6"
"""
INIT = """#!/bin/sh
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t tmpfs none /run
/agent &
while :; do sleep 1; done
"""


def rootfs(folder: Path) -> str:
    """A read-only system with Corral's agent as all that it does."""
    tree = folder / "tree"
    for name in ("bin", "sbin", "dev", "proc", "run"):
        (tree / name).mkdir(parents=True)
    busybox = initramfs.busybox()
    (tree / "bin" / "busybox").write_bytes(busybox)
    for name in ("sh", "mount", "sleep", "uname", "cat", "echo"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "agent").write_bytes(programs.compiled(programs.AGENT, str(folder)))
    (tree / "sbin" / "init").write_text(INIT)
    for path in (tree / "bin" / "busybox", tree / "agent", tree / "sbin" / "init"):
        path.chmod(0o755)
    image = str(folder / "rootfs.ext4")
    subprocess.run([sys.executable, "-m", "corral", "image", "from-dir", str(tree), image], check=True, timeout=120)
    return image


def start(name: str, python: Path, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir()
    overlay = folder / "overlay.ext4"
    overlay.write_bytes(bytes(1 << 20))
    words = {
        "kernel": next(one.path for one in kernel.ready() if one.name == kernel.SMALL),
        "rootfs": rootfs(folder),
        "overlay": str(overlay),
        "memory": str(folder / "memory"),
        "snapshot": str(folder / "snapshot"),
        "python": sys.executable,
        "execute": EXECUTE,
    }
    return subprocess.Popen(
        [
            *("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", WORLD, "world", str(folder)),
            *(str(Path(sys.executable).parent / "corral"), sys.executable, str(python)),
            *(str(Path(__file__).parent / "client.py"), json.dumps(words)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"DOCKER": DOCKER, "XDG_RUNTIME_DIR": str(folder)},
        stdin=subprocess.DEVNULL,
    )


def test_clients_boot_pause_save_and_go_on(environment: Callable[[str], Path], tmp_path: Path) -> None:
    """At the same time: for the most part they sleep."""
    pythons = {name: environment(name) / "python" for name in CLIENTS}
    skip_without_kernel()
    if os.getuid():
        pytest.skip("the clients want root, for tap devices and /var/lib/firecracker")
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces of mounts and networks can be made here")
    processes = [start(name, python, tmp_path / name[:2]) for name, python in pythons.items()]
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output + errors
        told = json.loads(output.splitlines()[-1])
        assert told["create"].endswith("created")
        assert told["list"] == [True]
        assert told["config"]["machine-config"]["mem_size_mib"] == 128
        assert (told["first"], told["after"], told["kept"]) == ("Linux\n", "42\n", "42\n")
        assert told["pause"].endswith("paused successfully")
        assert told["resume"].endswith("resumed successfully")
        assert (told["stopped"], told["state"]) == (True, "Running")
