"""What a clone writes, line by line, with its number in front."""

from __future__ import annotations

import os

from corral.core.waiting import WRITABLE, wait_for

PIECE = 64 * 1024  # bytes that are read at once, and of a line that are kept until its end


class Lines:
    """From a pipe, which it closes at the end, to a descriptor; a prefix of no bytes passes on all as it comes. The end
    of a line that is very long, or is not written, is not waited for."""

    def __init__(self, source: int, sink: int, prefix: bytes) -> None:
        self.source, self._sink, self._prefix = source, sink, prefix
        self._begun = bytearray()  # a line

    def take(self) -> bool:
        """What is there. False: nothing."""
        try:
            data = os.read(self.source, PIECE)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        if not self._prefix:
            _write(self._sink, data)
            return True
        self._begun += data
        whole, end, rest = self._begun.rpartition(b"\n")
        if not end and len(rest) > PIECE:
            whole, rest = rest, bytearray()
        if end or whole:
            self._tell(whole)
        self._begun = rest
        return True

    def take_all(self) -> None:
        """Of one that has ended: to the end, which an unfinished line has too."""
        while self.source >= 0 and self.take():
            pass
        if self._begun:
            self._tell(self._begun)
            self._begun = bytearray()
        self.close()

    def close(self) -> None:
        if self.source >= 0:
            os.close(self.source)
            self.source = -1

    def _tell(self, lines: bytearray) -> None:
        _write(self._sink, b"".join(self._prefix + line + b"\n" for line in lines.split(b"\n")))


def _write(descriptor: int, data: bytes) -> None:
    """All of it; a reader who stalls holds the clones back. Raises BrokenPipeError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody has made it so
            wait_for({descriptor: WRITABLE})
