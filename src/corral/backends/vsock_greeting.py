"""What a guest that goes on from a snapshot is told before a program of the host reaches it: by a first connection to
its agent (docs/agent.md), which csrc/vsock/vsock.h makes and waits for."""

from __future__ import annotations

import socket
import struct

from corral.backends.channel import beginning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.channel import Identity

PORT = 25455  # of the agent
FRAME = struct.Struct("<IB3x")  # length of the payload, kind
IDENTITY = b"i"


class Greeting:
    """`fd` is for the device, which closes it; the other end is kept until close(), and what the agent answers with
    it. A guest without an agent refuses the connection, and that is all."""

    def __init__(self, identity: Identity | None) -> None:
        theirs, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.setblocking(False)
        said = beginning(identity)
        self._ours.sendall(b"CONNECT %d\n" % PORT + FRAME.pack(len(said), IDENTITY[0]) + said)
        self.fd = theirs.detach()

    def close(self) -> None:
        self._ours.close()
