"""What code that has broken into a thread of the VMM might try: system calls, as numbers and words of memory.

Each attempt is a process. Forked from pytest's, which is large, it would cost five times as much, so a small process
forks them: `python -m tests.support.vmm_attempts` takes outcome()'s arguments and gives its results, a JSON line each.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Self

from corral.jail import confine
from corral.native import lib

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PATH = ctypes.create_string_buffer(b"/etc/passwd")
NEW_PATH = ctypes.create_string_buffer(b"/tmp/corral-jail-attempt")
PROGRAM = ctypes.create_string_buffer(b"/bin/true")
WORDS = (ctypes.c_char_p * 2)(b"true", None)
ROOM = ctypes.create_string_buffer(4096)  # structures of zeros, and room for answers
THREAD = 0x3D0F00  # CLONE_*: of a thread


def _at(buffer: ctypes.Array[ctypes.c_char] | ctypes.Array[ctypes.c_char_p]) -> int:
    return ctypes.addressof(buffer)


ALLOWED = os.path.dirname(os.path.abspath(__file__))  # for a script that named files: none of those below
AT_FDCWD = -100 & (1 << 64) - 1
PARENT = os.getpid()  # of the processes that try

# Name: number and arguments (asm/unistd_64.h).
CALLS: dict[str, tuple[int, ...]] = {
    "open": (2, _at(PATH), 0),
    "openat": (257, AT_FDCWD, _at(PATH), 0),
    "openat to create": (257, AT_FDCWD, _at(NEW_PATH), os.O_CREAT | os.O_WRONLY, 0o600),
    "openat2": (437, AT_FDCWD, _at(PATH), _at(ROOM), 24),
    "open_by_handle_at": (304, AT_FDCWD, _at(ROOM), 0),
    "name_to_handle_at": (303, AT_FDCWD, _at(PATH), _at(ROOM), _at(ROOM) + 512, 0),
    "memfd_create": (319, _at(NEW_PATH), 0),
    "creat": (85, _at(NEW_PATH), 0o600),
    "unlink": (87, _at(NEW_PATH)),
    "rename": (82, _at(PATH), _at(NEW_PATH)),
    "link": (86, _at(PATH), _at(NEW_PATH)),
    "symlink": (88, _at(PATH), _at(NEW_PATH)),
    "mkdir": (83, _at(NEW_PATH), 0o700),
    "mknod": (133, _at(NEW_PATH), 0o20600, 0x101),
    "chmod": (90, _at(PATH), 0o644),
    "chown": (92, _at(PATH), 0, 0),
    "truncate": (76, _at(NEW_PATH), 0),
    "chdir": (80, _at(ROOM)),
    "chroot": (161, _at(ROOM)),
    "pivot_root": (155, _at(ROOM), _at(ROOM)),
    "mount": (165, _at(ROOM), _at(PATH), _at(ROOM), 0, 0),
    "umount2": (166, _at(PATH), 0),
    "fsopen": (430, _at(ROOM), 0),
    "open_tree": (428, AT_FDCWD, _at(PATH), 0),
    "inotify_init1": (294, 0),
    "fanotify_init": (300, 0, 0),
    "socket of the internet": (41, socket.AF_INET, socket.SOCK_STREAM, 0),
    "socket of unix": (41, socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "socket of netlink": (41, socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "socketpair": (53, socket.AF_UNIX, socket.SOCK_STREAM, 0, _at(ROOM)),
    "connect": (42, 0, _at(ROOM), 16),
    "bind": (49, 0, _at(ROOM), 16),
    "listen": (50, 0, 1),
    "accept": (43, 0, 0, 0),
    "execve": (59, _at(PROGRAM), _at(WORDS), 0),
    "execveat": (322, AT_FDCWD, _at(PROGRAM), _at(WORDS), 0, 0),
    "fork": (57,),
    "vfork": (58,),
    "clone of a process": (56, signal.SIGCHLD, 0, 0, 0, 0),
    "clone into namespaces": (56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "clone3": (435, _at(ROOM), 88),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "ptrace": (101, 16, PARENT, 0, 0),
    "process_vm_readv": (310, PARENT, _at(ROOM), 1, _at(ROOM), 1, 0),
    "process_vm_writev": (311, PARENT, _at(ROOM), 1, _at(ROOM), 1, 0),
    "pidfd_open": (434, PARENT, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "kcmp": (312, PARENT, PARENT, 0, 0, 0),
    "kill of another process": (62, PARENT, 0),
    "tgkill of another process": (234, PARENT, PARENT, 0),
    "tkill": (200, PARENT, 0),
    "executable memory": (9, 0, 4096, 7, 0x22, AT_FDCWD, 0),
    "memory made executable": (10, _at(ROOM) & ~4095, 4096, 5),
    "pkey_mprotect": (329, _at(ROOM) & ~4095, 4096, 5, -1 & (1 << 64) - 1),
    "io_uring_setup": (425, 8, _at(ROOM)),
    "io_uring_register": (427, 0, 0, 0, 0),
    "bpf": (321, 0, _at(ROOM), 64),
    "perf_event_open": (298, _at(ROOM), 0, -1 & (1 << 64) - 1, -1 & (1 << 64) - 1, 0),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, 0),
    "add_key": (248, _at(ROOM), _at(ROOM), 0, 0, 0),
    "setuid": (105, 0),
    "capset": (126, _at(ROOM), _at(ROOM)),
    "personality": (135, 0x0400000),
    "prctl to be dumped": (157, 4, 1, 0, 0, 0),
    "setrlimit": (160, 4, _at(ROOM)),
    "init_module": (175, _at(ROOM), 0, _at(ROOM)),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "sethostname": (170, _at(PATH), 4),
    "settimeofday": (164, _at(ROOM), 0),
    "ioctl of a terminal, to type there": (16, 0, 0x5412, _at(ROOM)),
    "ioctl that makes a VM": (16, 0, 0xAE01, 0),
    "ioctl that adds guest memory": (16, 0, 0x4020AE46, _at(ROOM)),
    "a call of 32-bit x86": (0x40000000 | 2, _at(PATH), 0),
}


def attempt(name: str) -> None:
    """Ends this process: status 0 when it was done, 1 when it failed; else what the jail makes of it."""
    number, *arguments = CALLS[name]
    words = [ctypes.c_long(word if word < 1 << 63 else word - (1 << 64)) for word in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if number in (57, 58, 56) and result == 0:
        os._exit(0)
    if number in (57, 58, 56) and result > 0:  # it may wait for Python's lock, which another thread had then
        os.kill(result, signal.SIGKILL)
    os._exit(1 if result < 0 else 0)


BASES = {lib.CORRAL_JAIL_DEBUGGER, lib.CORRAL_JAIL_SCRIPT, lib.CORRAL_JAIL_FILES}  # instead of the main thread's


def outcome(kind: int | None, name: str, reports: bool = False, user: int = 0) -> tuple[int, bytes]:
    """The wait status of a process whose thread of that kind tries it, and what it said; None: without a jail. `user`:
    as that one, if it is not 0."""
    said, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(theirs, 2)
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        _be(kind, reports, lambda: attempt(name))
    os.close(theirs)
    with open(said, "rb") as lines:
        text = lines.read()
    return os.waitpid(child, 0)[1], text


def _be(kind: int | None, reports: bool, then: Callable[[], None]) -> None:
    try:
        if kind is None:
            then()
            return
        base: int = kind if kind in BASES else lib.CORRAL_JAIL_MAIN
        if reports:
            confine.report(base)
        else:
            confine.leave_namespaces()
            allowed = os.open(ALLOWED, os.O_PATH)
            confine.enter((), base, [(allowed, True)] if kind == lib.CORRAL_JAIL_FILES else [])
        if kind in (lib.CORRAL_JAIL_SCRIPT, lib.CORRAL_JAIL_FILES):
            then()
        if kind == lib.CORRAL_JAIL_MAIN:
            then()

        def thread() -> None:
            if lib.corral_jail_enter(kind) == 0:
                then()
            os._exit(99)

        threading.Thread(target=thread).start()
        threading.Event().wait()
    finally:
        sys.stderr.flush()
        os._exit(98)


class Attempts:
    """outcome() in a process of its own. A context manager."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def outcome(self, kind: int | None, name: str, reports: bool = False, user: int = 0) -> tuple[int, str]:
        """As the function of this name; what it said as text."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests
        assert answers
        print(json.dumps([kind, name, reports, user]), file=requests, flush=True)
        status, said = json.loads(answers.readline())
        return status, said


def _serve() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for line in requests:
        status, said = outcome(*json.loads(line))
        print(json.dumps([status, said.decode()]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
