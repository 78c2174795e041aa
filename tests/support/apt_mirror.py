"""A repository of Debian packages over HTTP, on this host's loopback: one package, made here."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONTROL = """\
Package: corral-hello
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: says hello
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def make(folder: Path) -> None:
    """The package, which has /usr/bin/corral-hello, and its index."""
    root = folder / "package"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(CONTROL)
    program = root / "usr" / "bin" / "corral-hello"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho hello from a package\n")
    program.chmod(0o755)
    package = folder / "corral-hello_1.0_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    data = package.read_bytes()
    about = f"Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    (folder / "Packages").write_text(CONTROL + about)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of a mirror that has it, made in `folder`."""
    make(folder)
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
