"""A tap device of the host: what a guest sends comes out of an interface there (Linux: networking/tuntap.rst)."""

from __future__ import annotations

import errno
import os
import socket
import struct

from corral.errors import HostError
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig

DEVICE = "/dev/net/tun"
# linux/if_tun.h
TUNSETIFF, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")


class Tap:
    """`fd` is one of its queue. The device must be there: made by `ip tuntap add`, for this user. Raises HostError."""

    def __init__(self, config: NetConfig) -> None:
        import fcntl

        name = config.target
        made = f"make it: ip tuntap add dev {name} mode tap user $USER, and ip link set {name} up (as root)"
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise HostError(f"--net tap={name}: there is no such device; {made}") from None
        try:
            self.fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise HostError(f"--net tap={name}: cannot open {DEVICE}: {error.strerror}; see who may use it") from None
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, _IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
            fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", lib.CORRAL_NET_HEADER))
        except OSError as error:
            self.close()
            raise HostError(f"--net tap={name}: {_reason(error)}") from None

    said = ""

    def ready(self) -> None:
        """It is."""

    def close(self) -> None:
        os.close(self.fd)


def _reason(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "it is another user's; have root make one for you: ip tuntap add dev NAME mode tap user $USER"
    if error.errno == errno.EBUSY:
        return "another program uses it; end that, or choose another"
    if error.errno == errno.EINVAL:
        return "it is no tap device, or one with many queues; make one: ip tuntap add dev tap0 mode tap user $USER"
    return error.strerror or "it cannot be used"
