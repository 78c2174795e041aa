"""skopeo, the distribution's tool that speaks with registries: run once for a document, or as a server for layers.

As a server it takes requests, JSON, from a socket and answers with JSON and pipes, so that layers come to us as they
are and are compared with their digests here. Authentication, certificates and policies are skopeo's own files.

Source: skopeo, docs-experimental and cmd/skopeo/proxy.go ("experimental-image-proxy").
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile

from corral.errors import BootError, HostError
from corral.guests import debian
from corral.oci import documents
from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_LONGEST_MESSAGE = 32 << 10
_PIECE = 1 << 20
_ENDED = "it ended; is it a version with experimental-image-proxy?"
_MESSAGE = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_REFUSED = (
    "manifest unknown",
    "not found",
    "name unknown",
    "unauthorized",
    "authentication required",
    "denied",
    "does not resolve",
)
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?")


def words(host: str) -> list[str]:
    """How skopeo is to speak with that registry: with one on this machine also without encryption, as Docker does."""
    return ["--tls-verify=false"] if _LOOPBACK.fullmatch(host) else []


def require() -> None:
    """Raises HostError, unless skopeo is there or may be installed."""
    debian.require_installed(["skopeo"], "fetching container images")


def output(command: Sequence[str], most: int = documents.LONGEST) -> bytes:
    """What it prints, at most so much. Raises BootError, HostError."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(["skopeo", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        try:
            assert process.stdout is not None
            data = process.stdout.read(most + 1)
            if len(data) > most:
                raise BootError(f"a registry sent a document of more than {most >> 20} MiB")
            if process.wait():
                said.seek(0)
                raise refusal(said.read(1 << 16).decode(errors="replace"))
            return data
        finally:
            _end(process)


def refusal(said: str) -> BootError | HostError:
    """What skopeo complains about, in one line."""
    found = _MESSAGE.findall(said)
    text = found[-1].replace('\\"', '"').replace("\\\\", "\\") if found else (said.strip() or "it said nothing")
    text = " ".join(printable(text.replace("\\n", " ").replace("\n", " ")).split())[:600]
    if any(word in text for word in _REFUSED):
        return BootError(f"{text}; check the name; for what is not public: skopeo login")
    return HostError(f"skopeo: {text}; check the network, or try again")


class Server:
    """skopeo, with one image open. `image` is as skopeo names it, with its transport."""

    def __init__(self, image: str, options: Sequence[str]) -> None:
        ours, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        command = ["skopeo", "experimental-image-proxy", "--sockfd", str(others.fileno()), *options]
        with others:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[others.fileno()],
            )
        try:
            self._call("Initialize")
            self._image, _, _ = self._call("OpenImage", image)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def kill(self) -> None:
        """From another thread too: who waits for an answer gets none."""
        _end(self._process)

    def close(self) -> None:
        self.kill()
        self._socket.close()

    def blob(self, wanted: documents.Descriptor, save: Any) -> None:
        """Gives what has that digest to `save`, in pieces; what comes is not to be believed. Raises BootError,
        HostError."""
        _, pipe, number = self._call("GetBlob", self._image, wanted.digest, wanted.size)
        if pipe < 0:
            raise HostError("skopeo gave no data; it is of a version that Corral does not know")
        left = wanted.size
        try:
            self._send("FinishPipe", number)  # answered at the end; until it is asked there is none
            while data := os.read(pipe, _PIECE):
                left -= len(data)
                if left < 0:
                    raise BootError(f"a registry sent more than the {wanted.size} bytes of {wanted.digest}")
                save(data)
        finally:
            os.close(pipe)
        self._answer()

    def _call(self, method: str, *arguments: Any) -> tuple[Any, int, int]:
        self._send(method, *arguments)
        return self._answer()

    def _send(self, method: str, *arguments: Any) -> None:
        try:
            self._socket.send(json.dumps({"method": method, "args": arguments}).encode())
        except OSError as error:
            raise HostError(f"skopeo does not answer: {error.strerror}") from None

    def _answer(self) -> tuple[Any, int, int]:
        """The value, a pipe or -1, and the pipe's number."""
        try:
            data, pipes, _, _ = socket.recv_fds(self._socket, _LONGEST_MESSAGE, 1)
            answer: dict[str, Any] = json.loads(data) if data else {"error": _ENDED}
        except (OSError, ValueError) as error:
            raise HostError(f"skopeo does not answer: {error}") from None
        pipe = pipes[0] if pipes else -1
        if not answer.get("success"):
            if pipes:
                os.close(pipe)
            raise refusal(str(answer.get("error", "")))
        return answer.get("value"), pipe, answer.get("pipeid", 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Without waiting for what it does."""
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
