"""A client of a guest's console, or of what else its process tells as it comes (control.py)."""

from __future__ import annotations

import socket
import time

from corral.errors import HostError

PATIENCE = 5.0  # seconds in which the guest's process answers
_CHUNK = 65536


class Attached:
    """A context manager. Raises HostError where the guest's process does not answer, or refuses `word`."""

    def __init__(self, path: str, word: str = "attach") -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._early = b""
        self._deadline: float | None = None
        try:
            self._socket.connect(path)
            self._socket.sendall(f"{word}\n".encode())
            while b"\n" not in self._early:
                piece = self._socket.recv(_CHUNK)
                if not piece:
                    raise HostError("the guest's process has ended")
                self._early += piece
            said, _, self._early = self._early.partition(b"\n")
            if said != b"ok":
                raise HostError(said.decode("utf-8", "replace").removeprefix("error "))
            self._socket.settimeout(None)
        except OSError as error:
            self._socket.close()
            raise HostError(f"the guest's process does not answer: {error}") from error
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def early(self) -> bytes:
        """What came with the answer: no poll() tells of it."""
        early, self._early = self._early, b""
        return early

    def skip(self, known: bytes) -> bytes:
        """What comes first of the console's end, without what is `known` of it already."""
        early = self.early()
        for size in range(len(early), 0, -1):
            if known.endswith(early[:size]):
                return early[size:]
        return early

    def read(self) -> bytes | None:
        """What comes, after waiting for it; None: the guest has ended, or ends_in()'s time is over."""
        try:
            if self._deadline is not None:
                self._socket.settimeout(max(0.001, self._deadline - time.monotonic()))
            return self._socket.recv(_CHUNK) or None
        except OSError:  # that time is over, too
            return None

    def ends_in(self, seconds: float | None) -> None:
        """read() tells of an end then."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)
