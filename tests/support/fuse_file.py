"""A file of a file system that stops answering: FUSE, spoken over /dev/fuse. Needs root."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import threading
from pathlib import Path

# linux/fuse.h: operations, and what their answers begin with.
LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, INIT = 1, 2, 3, 14, 15, 16, 18, 20, 26
INTERRUPT, BATCH_FORGET = 36, 42
SILENT = {FORGET, INTERRUPT, BATCH_FORGET}  # wait for no answer
ROOT, FILE = 1, 2
VERSION = 7, 31
BUFFER = 1 << 18
MNT_FORCE, MNT_DETACH = 1, 2
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")  # struct fuse_attr


class FuseFile:
    """`path` is a file of `size` zeros, which can be read and written until `silent` is set. A context manager, at
    whose end all that waits for an answer gets an error.

    A silent one takes requests, `asked` of them, and answers none: no signal ends who waits for that, not even SIGKILL.
    With `dead` it does not take them either, like one that is stopped: then SIGKILL does.
    """

    def __init__(self, folder: Path, size: int, dead: bool = False) -> None:
        self._folder, self._size, self._dead = folder, size, dead
        self.path = folder / "image"
        self.silent, self._over = threading.Event(), threading.Event()
        self.asked = 0
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> FuseFile:
        self._folder.mkdir()
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if self._libc.mount(b"corral-test", bytes(self._folder), b"fuse", 0, options.encode()):
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "mounting FUSE")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        # So that the kernel learns that there is no FLUSH: no signal ends a close that waits for its answer.
        os.close(os.open(self.path, os.O_RDWR))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._libc.umount2(bytes(self._folder), MNT_FORCE | MNT_DETACH)
        self._thread.join(10)
        os.close(self._device)

    def _serve(self) -> None:
        while True:
            try:
                there = select.select([self._device], [], [], 0.05)[0]
                if self._dead and self.silent.is_set():
                    self._over.wait()
                    return
                if not there:
                    continue
                request = os.read(self._device, BUFFER)
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                return  # unmounted
            _, operation, unique, node = struct.unpack_from("<IIQQ", request)
            if operation in SILENT:
                continue
            if self.silent.is_set() and operation in (READ, WRITE, FSYNC):
                self.asked += 1
                continue
            error, body = self._answer(operation, node, request[40:])
            os.write(self._device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)

    def _answer(self, operation: int, node: int, body: bytes) -> tuple[int, bytes]:
        if operation == INIT:
            (ahead,) = struct.unpack_from("<I", body, 8)
            return 0, struct.pack("<IIIIHHIIHHI", *VERSION, ahead, 0, 16, 12, 1 << 17, 1, 32, 0, 0) + bytes(24)
        if operation == LOOKUP:
            if body.rstrip(b"\0") != self.path.name.encode():
                return errno.ENOENT, b""
            return 0, struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self._attributes(FILE)
        if operation == GETATTR:
            return 0, struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if operation == OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, bytes(max(0, min(size, self._size - offset)))
        if operation == WRITE:
            _, _, size = struct.unpack_from("<QQI", body)
            return 0, struct.pack("<II", size, 0)
        return (0, b"") if operation in (RELEASE, FSYNC) else (errno.ENOSYS, b"")

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFDIR | 0o755, 0) if node == ROOT else (stat.S_IFREG | 0o644, self._size)
        return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
