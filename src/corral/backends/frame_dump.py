"""A file of frames for Wireshark and tshark: pcapng (draft-ietf-opsawg-pcapng), whose blocks net_dump.c adds."""

from __future__ import annotations

import os
import stat
import struct

from corral.errors import ConfigError

_SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
# Ethernet, frames as long as they are, times in nanoseconds.
_INTERFACE = struct.pack("<IIHHIHHB3xHHI", 1, 32, 1, 0, 0, 9, 1, 9, 0, 0, 32)


def opened(path: str) -> int:
    """A descriptor of the file, which is made anew and begins as such files do. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ConfigError(f"--net-dump: {path!r} is no regular file; name another")
        os.write(fd, _SECTION + _INTERFACE)
    except OSError as error:
        raise ConfigError(f"--net-dump: cannot write {path!r}: {error.strerror}; name another file") from None
    return fd
