"""schemathesis asks all that our OpenAPI document allows, and much that it does not: each answer is as the document
says, none is a 5xx, and the process prints no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 15  # at most
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Paths that it makes up are files that are written: here alone.
HERE_ALONE = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


@contextmanager
def by_tcp(path: str) -> Iterator[int]:
    """A TCP port that leads to a Unix socket: schemathesis knows no other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(path)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_every_answer_is_as_the_document_says(environment: Callable[[str], Path], tmp_path: Path) -> None:
    program = environment("schemathesis") / "st"
    path, document = tmp_path / "s", tmp_path / "openapi.json"
    corral = [sys.executable, "-m", "corral", "api"]
    document.write_bytes(subprocess.run([*corral, "--openapi"], capture_output=True, check=True).stdout)
    words = [*corral, "--socket", str(path)]
    if os.getuid() == 0:
        words = ["unshare", "--mount", "sh", "-c", HERE_ALONE, str(tmp_path), *words]
    api = subprocess.Popen(
        words, cwd=tmp_path, stderr=subprocess.PIPE, env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    )
    try:
        while not path.exists():
            assert api.poll() is None
            time.sleep(0.01)
        with by_tcp(str(path)) as port:
            done = subprocess.run(
                [
                    *(str(program), "run", str(document), "--url", f"http://127.0.0.1:{port}", "--checks", CHECKS),
                    *("--phases", "coverage,fuzzing", "--max-time", str(SECONDS), "--max-examples", "15"),
                    *("--no-color", "--warnings", "off"),
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=SECONDS + 120,
            )
        assert api.poll() is None
    finally:
        api.terminate()
        _, errors = api.communicate(timeout=30)
    assert errors == b""
    assert done.returncode == 0, done.stdout + done.stderr
