"""What can go wrong, by whose turn it is to act: each class is an exit status, each message names the cure."""

from __future__ import annotations

import os


class CorralError(Exception):
    """Base of every error that Corral raises on purpose; its text is one line for a person."""

    exit_status = 1


class ConfigError(CorralError):
    """A request that contradicts itself or is out of range: bad usage."""

    exit_status = 2


class BootError(CorralError):
    """A kernel, initramfs or image that cannot be used: bad input."""

    exit_status = 2


class HostError(CorralError):
    """The host lacks something: KVM, a permission, a package, memory."""

    exit_status = 3


class KvmError(HostError):
    """An ioctl on a KVM file descriptor failed."""

    def __init__(self, ioctl: str, errno: int, cure: str = "") -> None:
        self.ioctl = ioctl
        self.errno = errno
        super().__init__(f"{ioctl}: {os.strerror(errno)} (errno {errno})" + (f"; {cure}" if cure else ""))


class GuestError(CorralError):
    """The guest died: triple fault, an instruction that nobody can execute, a KVM internal error."""

    exit_status = 4


class GuestTimeout(CorralError):
    """The time given to the guest is over."""

    exit_status = 124
