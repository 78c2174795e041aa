"""What `corral-client` hands over: struct request of csrc/client, strings with a zero behind each, and descriptors."""

from __future__ import annotations

import os
import socket
import struct

from corral.startup.record import record

MAGIC = 0x314C5043
MOST = 1 << 17  # bytes of strings
_HEAD = struct.Struct("=6I")
_NUMBER = struct.calcsize("i")
DESCRIPTORS = 4  # the standard ones, and the folder


class BadRequest(Exception):
    """No client of ours, or one that is gone."""


@record(frozen=True)
class Handed:
    """`descriptors` are the receiver's to close. `ignored` has a bit for each signal's number."""

    words: list[str]
    environment: dict[str, str]
    descriptors: tuple[int, ...]
    mask: int
    ignored: int

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)


def receive(connection: socket.socket) -> Handed:
    """Within the time limit of the socket for each part. Raises BadRequest; no descriptor is left open then."""
    descriptors: list[int] = []
    try:
        text = _first(connection, descriptors)
        head = _HEAD.unpack_from(text)
        magic, size, words, variables, mask, ignored = head
        if magic != MAGIC or size > MOST or len(descriptors) != DESCRIPTORS:
            raise BadRequest("no request of this version")
        while len(text) < _HEAD.size + size:
            piece = connection.recv(_HEAD.size + size - len(text))
            if not piece:
                raise BadRequest("cut off")
            text += piece
        strings = [os.fsdecode(one) for one in text[_HEAD.size :].split(b"\0")[:-1]]
        if len(strings) != words + variables:
            raise BadRequest("other strings than it says")
        pairs = (one.partition("=") for one in strings[words:])
        environment = {name: value for name, equals, value in pairs if equals and name}
        return Handed(strings[:words], environment, tuple(descriptors), mask & 0o777, ignored)
    except (OSError, struct.error, BadRequest) as error:
        for fd in descriptors:
            os.close(fd)
        raise BadRequest(str(error)) from None


def _first(connection: socket.socket, descriptors: list[int]) -> bytes:
    space = socket.CMSG_SPACE(DESCRIPTORS * _NUMBER)
    text, extras, _, _ = connection.recvmsg(_HEAD.size + MOST, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, brought in extras:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += (value for (value,) in struct.iter_unpack("i", brought[: len(brought) // _NUMBER * _NUMBER]))
    return text
