"""What can go wrong, by whose turn it is to act: each class is an exit status, each message names the cure."""

from __future__ import annotations

import errno as numbers
import os

DENIED = (numbers.EPERM, numbers.ENOSYS)  # of a call that the kernel allows: not what it says by itself
SCARCE = (numbers.EMFILE, numbers.ENFILE, numbers.ENOMEM)  # on this host now: never the fault of a path
_FILES, _TOO_MANY_FILES = (numbers.EMFILE, numbers.ENFILE), "too few open files are allowed; see ulimit -n"
POLICY = "a policy of this container, service or host may forbid it (seccomp, AppArmor, SELinux)"


class CorralError(Exception):
    """Base of every error that Corral raises on purpose; its text is one line for a person."""

    exit_status = 1


class ConfigError(CorralError):
    """A request that contradicts itself or is out of range: bad usage."""

    exit_status = 2


class ClosedError(CorralError):
    """Something was asked of a machine, or of what belongs to one, that is closed: bad usage."""

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
        cure = POLICY if errno in DENIED else _TOO_MANY_FILES if errno in _FILES else cure
        super().__init__(f"{ioctl}: {os.strerror(errno)} (errno {errno})" + (f"; {cure}" if cure else ""))


class GuestError(CorralError):
    """The guest died: triple fault, an instruction that cannot be executed, a KVM internal error."""

    exit_status = 4


class GuestTimeout(CorralError):
    """The time given to the guest is over."""

    exit_status = 124
