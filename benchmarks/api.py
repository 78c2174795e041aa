"""api: from process start to the first answer of `corral api`, against the bare interpreter and servers in Python; that
of PyPI where `pip install uvicorn starlette msgspec` has been done."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict

ROUNDS = 21
MOST = 30.0  # ms
OURS = "corral api, GET / answered"

STANDARD = """
import http.server, json, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({}).encode())
    def address_string(self):
        return ""
    def log_message(self, *words):
        pass
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""
ASGI = """
import sys, msgspec, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def answer(request):
    return Response(msgspec.json.encode({}))
uvicorn.run(Starlette(routes=[Route("/", answer)]), uds=sys.argv[1], log_level="error")
"""


def ready(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Seconds from the start of a server, whose socket's path is its last word, to its first answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        nothing = subprocess.DEVNULL
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, path], env=environment, stdin=nothing, stdout=nothing, stderr=nothing, cwd=folder
        )
        try:
            with socket.socket(socket.AF_UNIX) as one:
                while one.connect_ex(path):
                    if process.poll() is not None or time.perf_counter() - start > 60:
                        raise RuntimeError(f"{command[0]} does not listen")
                    time.sleep(0.0005)
                one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if not one.recv(65536).startswith(b"HTTP/1."):
                    raise RuntimeError(f"{command[0]} does not answer")
            return time.perf_counter() - start
        finally:
            process.terminate()
            process.wait()


def main() -> bool:
    corral = installed.corral()
    python = corral.removesuffix("corral") + "python"
    environment = installed.environment()
    contenders = {
        OURS: partial(ready, [corral, "api", "--socket"], environment),
        "python -c pass, the floor": partial(seconds, [python, "-c", "pass"], environment),
        "http.server": partial(ready, [sys.executable, "-c", STANDARD]),
    }
    if all(importlib.util.find_spec(name) for name in ("uvicorn", "starlette", "msgspec")):
        contenders["uvicorn, starlette, msgspec"] = partial(ready, [sys.executable, "-c", ASGI])
    samples = interleaved(contenders, ROUNDS)
    medians = report("api: process start to the first answer", samples, "python -c pass, the floor")
    return verdict("the API is ready after", medians[OURS] * 1e3, MOST, "ms")


if __name__ == "__main__":
    sys.exit(not main())
