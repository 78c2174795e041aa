"""Messages between a process in the jail and the one that works for it: lists of byte strings, by a pipe.

The side in the jail may be a guest's by then: a reader takes nothing on trust, and no message is longer than it may be.
"""

from __future__ import annotations

import os

MOST = 1 << 22  # bytes of a message
_LENGTH = 4


class BadMessage(Exception):
    """The other side ended, or sent what is no message."""


def send(fd: int, *fields: bytes) -> None:
    """Raises BadMessage when there is no reader."""
    body = b"".join(len(field).to_bytes(_LENGTH, "little") + field for field in fields)
    data = len(body).to_bytes(_LENGTH, "little") + body
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        raise BadMessage(error.strerror) from None


def receive(fd: int) -> list[bytes]:
    """Raises BadMessage."""
    length = int.from_bytes(_exactly(fd, _LENGTH), "little")
    if length > MOST:
        raise BadMessage(f"a message of {length} bytes")
    body, fields = _exactly(fd, length), []
    while body:
        end = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
        if end > len(body):
            raise BadMessage("a field that is longer than its message")
        fields.append(body[_LENGTH:end])
        body = body[end:]
    return fields


def _exactly(fd: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        try:
            piece = os.read(fd, length - len(data))
        except OSError as error:
            raise BadMessage(error.strerror) from None
        if not piece:
            raise BadMessage("the other side ended")
        data += piece
    return data
