"""Packets of gdb's remote protocol: framing, checksums and acknowledgements, over a connected socket."""

from __future__ import annotations

import socket
import time

from corral.core.waiting import READABLE, WRITABLE, wait_for

LONGEST = 0x4000  # bytes of a packet, as it is announced to gdb
INTERRUPT = b"\x03"  # what read() gives for gdb's Ctrl-C
_CHUNK = 4096
_LAST = 0.5  # seconds that gdb has for the last answer


class Closed(Exception):
    """The other end is closed, or does not speak this protocol."""


class Packets:
    """read() and write() of whole packets; nothing of a stranger's makes it keep more than LONGEST bytes.

    When `over` can be read, or is at its end, there is nothing more to read, and what is being written has half a
    second to find its reader.
    """

    def __init__(self, connection: socket.socket, over: int) -> None:
        self._connection, self._over = connection, over
        self._deadline: float | None = None
        connection.setblocking(False)
        self._data = bytearray()
        self._sent = b""
        self.acknowledges = True

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def waiting(self) -> bool:
        """Whether something was received that read() has not given yet."""
        return bool(self._data)

    def read(self) -> bytes:
        """The next packet's content, unescaped, or INTERRUPT. Raises Closed."""
        while True:
            first = self._byte()
            if first == 0x03:
                return INTERRUPT
            if first == ord("-") and self._sent:
                self._send(self._sent)
            if first in b"+-":
                continue
            if first != ord("$"):  # a web page's request, perhaps
                raise Closed
            content = bytearray()
            while (byte := self._byte()) != ord("#"):
                content.append(byte)
                if len(content) > LONGEST:
                    raise Closed
            told = bytes((self._byte(), self._byte()))
            good = told.lower() == b"%02x" % (sum(content) & 0xFF)
            if self.acknowledges:
                self._send(b"+" if good else b"-")
            if good:
                return _unescape(content)
            if not self.acknowledges:
                raise Closed

    def write(self, content: bytes) -> None:
        """Content is text of ours or escaped. Raises Closed."""
        self._sent = b"$" + content + b"#%02x" % (sum(content) & 0xFF)
        self._send(self._sent)

    def _byte(self) -> int:
        while not self._data:
            if self._over in wait_for({self.fileno(): READABLE, self._over: READABLE}):
                raise Closed
            try:
                self._data += self._connection.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Closed from error
            if not self._data:
                raise Closed
        return self._data.pop(0)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view) :]
            except BlockingIOError:
                self._await_reader()
            except OSError as error:
                raise Closed from error

    def _await_reader(self) -> None:
        """Raises Closed when it does not read, and it is over."""
        wanted = {self.fileno(): WRITABLE} | ({self._over: READABLE} if self._deadline is None else {})
        came = wait_for(wanted, self._deadline)
        if self._over in came:
            self._deadline = time.monotonic() + _LAST
        elif not came:
            raise Closed


def _unescape(content: bytearray) -> bytes:
    plain, at = bytearray(), 0
    while at < len(content):
        if content[at] == ord("}") and at + 1 < len(content):
            at += 1
            plain.append(content[at] ^ 0x20)
        else:
            plain.append(content[at])
        at += 1
    return bytes(plain)


def escape(data: bytes) -> bytes:
    """Binary data as it may stand in a packet."""
    return b"".join(b"}" + bytes((byte ^ 0x20,)) if byte in b"$#}*" else bytes((byte,)) for byte in data)
