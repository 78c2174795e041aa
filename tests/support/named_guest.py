"""Guests with a name, by the commands that people use, in a folder of this test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel

LONG = 120.0


def skip_without_kernel() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    initramfs.path()  # which says so while it is built


class Guests:
    """`corral` with a XDG_RUNTIME_DIR that nobody else has; close() ends what is left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"  # short: sockets have a path in there
        self.folder.mkdir(0o700)
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(self.folder)}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "corral", *words]

    def run(self, *words: str, input: bytes = b"", timeout: float = LONG) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*words), input=input, capture_output=True, timeout=timeout, env=self.environment
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*words), stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment)

    def boot(self, name: str, *words: str) -> None:
        done = self.run("boot", "--name", name, "--detach", *words)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == f"{name}\n".encode()

    def exec(self, name: str, *words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.run("exec", *(("-i",) if input else ()), name, "--", *words, input=input)

    def pid(self, name: str) -> int:
        import json

        about = json.loads((self.folder / "corral" / name / "about.json").read_text())
        return int(about["pid"])

    def await_end(self, pid: int) -> None:
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < end, "the guest's process is still there"
            time.sleep(0.01)

    def close(self) -> None:
        import json

        for guest in json.loads(self.run("ps", "--json").stdout):
            self.run("kill", guest["name"])
