"""Packets of gdb's remote protocol: framing, checksums and acknowledgements, over a connected socket."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

LONGEST = 0x4000  # bytes of a packet, as it is announced to gdb
INTERRUPT = b"\x03"  # what read() gives for gdb's Ctrl-C
_CHUNK = 4096


class Closed(Exception):
    """Nobody is at the other end, or somebody who does not speak this protocol."""


class Packets:
    """read() and write() of whole packets; nothing of a stranger's makes it keep more than LONGEST bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
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
            if first != ord("$"):
                continue
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
        if not self._data:
            try:
                self._data += self._connection.recv(_CHUNK)
            except OSError as error:
                raise Closed from error
            if not self._data:
                raise Closed
        return self._data.pop(0)

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise Closed from error


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
