"""A system call that a policy denies.

python tests/support/denied.py SYSCALL ERRNO WORDS... is the corral command with one. The filter is there from main()
on: Python itself has started by then.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import sys

# asm/unistd_64.h
NUMBERS = {"fstat": 5, "poll": 7, "ioctl": 16, "madvise": 28, "clone": 56, "fcntl": 72, "flock": 73, "openat": 257}
NUMBERS |= {"newfstatat": 262, "eventfd2": 290, "memfd_create": 319, "preadv2": 327}
NUMBERS |= {"io_uring_setup": 425, "io_uring_register": 427, "clone3": 435}
_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS = 317, 1, 1  # linux/seccomp.h
_PR_SET_NO_NEW_PRIVS = 38
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h; the number is the first word of the data
_ERRNO, _ALLOW, _KILL = 0x00050000, 0x7FFF0000, 0x80000000


def deny(call: str, number: int | None) -> None:
    """In all threads; it fails with errno `number`, or ends the process by SIGSYS if that is None."""
    rules = [(_LOAD, 0, 0, 0), (_JUMP_EQUAL, 0, 1, NUMBERS[call])]
    rules += [(_RETURN, 0, 0, _KILL if number is None else _ERRNO | number), (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS, program):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    from corral.cli import main

    deny(sys.argv[1], getattr(errno, sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
