"""A client of 9P2000.L over a socket, for tests of the server of shared folders: what a guest asks, in words."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from corral.backends.folder_server import FolderServer
from corral.config import ShareConfig

NO_FID = NO_USER = NO_TAG = 0xFFFFFFFF
ROOT = 1  # the fid of the folder
LERROR = 7
BASIC = 0x7FF  # of Tgetattr
MODE, UID, GID, SIZE, ATIME, MTIME, CTIME, ATIME_SET, MTIME_SET = (1 << bit for bit in range(9))
READ_LOCK, WRITE_LOCK, UNLOCK = range(3)
SUCCESS, BLOCKED = range(2)


def message(kind: int, tag: int, body: bytes = b"") -> bytes:
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def string(text: bytes) -> bytes:
    return struct.pack("<H", len(text)) + text


class Qid(NamedTuple):
    kind: int
    version: int
    path: int


class Attributes(NamedTuple):
    """Times in nanoseconds."""

    valid: int
    qid: Qid
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    blocks: int
    mtime: int


class Entry(NamedTuple):
    name: bytes
    kind: int
    offset: int
    path: int


class Client:
    """Of a server of its own. Errors of the server are OSErrors. Fid 1 is the folder; others are of your choice, or are
    counted up from 100 by `at`."""

    def __init__(self, folder: Path | str, writable: bool = False, user: int = 0, msize: int = 65536) -> None:
        self.server = FolderServer(ShareConfig(str(folder), writable=writable))
        self.socket = socket.socket(fileno=os.dup(self.server.fd))
        self.socket.settimeout(20)
        self._fid = 99
        version = self.ask(100, struct.pack("<I", msize) + string(b"9P2000.L"))
        self.msize = int(struct.unpack_from("<I", version)[0])
        self.attach(ROOT, user)

    def close(self) -> list[str]:
        """What the server complained of."""
        self.socket.close()
        self.server.close()
        return self.server.complaints

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- messages ---

    def send(self, kind: int, body: bytes = b"", tag: int = 1) -> None:
        self.socket.sendall(message(kind, tag, body))

    def receive(self) -> tuple[int, int, bytes]:
        """(kind, tag, body)"""
        size, kind, tag = struct.unpack("<IBH", self._bytes(7))
        return kind, tag, self._bytes(size - 7)

    def ask(self, kind: int, body: bytes = b"") -> bytes:
        self.send(kind, body)
        answered, _, body = self.receive()
        if answered == LERROR:
            (number,) = struct.unpack("<I", body)
            raise OSError(number, os.strerror(number))
        assert answered == kind + 1
        return body

    def _bytes(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise EOFError
            got += part
        return got

    # --- names ---

    def attach(self, fid: int, user: int = 0) -> None:
        self.ask(104, struct.pack("<II", fid, NO_FID) + string(b"") + string(b"/x") + struct.pack("<I", user))

    def walk(self, fid: int, new: int, *names: bytes) -> list[Qid]:
        body = self.ask(110, struct.pack("<IIH", fid, new, len(names)) + b"".join(map(string, names)))
        return [Qid(*struct.unpack_from("<BIQ", body, 2 + 13 * index)) for index in range(body[0])]

    def at(self, path: str = "", fid: int = ROOT) -> int:
        """A new fid of a path."""
        names = [os.fsencode(name) for name in path.split("/") if name]
        self._fid += 1
        if len(self.walk(fid, self._fid, *names)) != len(names):
            raise FileNotFoundError(path)
        return self._fid

    def clunk(self, fid: int) -> None:
        self.ask(120, struct.pack("<I", fid))

    def mkdir(self, fid: int, name: bytes, mode: int = 0o755, gid: int = 0) -> None:
        self.ask(72, struct.pack("<I", fid) + string(name) + struct.pack("<II", mode, gid))

    def mknod(self, fid: int, name: bytes, mode: int, gid: int = 0) -> None:
        self.ask(18, struct.pack("<I", fid) + string(name) + struct.pack("<IIII", mode, 1, 3, gid))

    def symlink(self, fid: int, name: bytes, target: bytes, gid: int = 0) -> None:
        self.ask(16, struct.pack("<I", fid) + string(name) + string(target) + struct.pack("<I", gid))

    def link(self, folder: int, fid: int, name: bytes) -> None:
        self.ask(70, struct.pack("<II", folder, fid) + string(name))

    def rename(self, folder: int, name: bytes, to: int, new: bytes) -> None:
        self.ask(74, struct.pack("<I", folder) + string(name) + struct.pack("<I", to) + string(new))

    def unlink(self, folder: int, name: bytes, flags: int = 0) -> None:
        self.ask(76, struct.pack("<I", folder) + string(name) + struct.pack("<I", flags))

    def readlink(self, fid: int) -> bytes:
        return self.ask(22, struct.pack("<I", fid))[2:]

    # --- what is in files and folders ---

    def open(self, fid: int, flags: int = os.O_RDONLY) -> int:
        """The fid."""
        self.ask(12, struct.pack("<II", fid, flags))
        return fid

    def create(self, name: bytes, flags: int = os.O_RDWR, mode: int = 0o644, gid: int = 0, folder: int = ROOT) -> int:
        """The fid of the file, open."""
        fid = self.at(fid=folder)
        self.ask(14, struct.pack("<I", fid) + string(name) + struct.pack("<III", flags, mode, gid))
        return fid

    def read(self, fid: int, offset: int = 0, count: int = 1 << 16) -> bytes:
        return self.ask(116, struct.pack("<IQI", fid, offset, count))[4:]

    def write(self, fid: int, data: bytes, offset: int = 0) -> int:
        body = self.ask(118, struct.pack("<IQI", fid, offset, len(data)) + data)
        return int(struct.unpack("<I", body)[0])

    def fsync(self, fid: int, data_only: bool = False) -> None:
        self.ask(50, struct.pack("<II", fid, data_only))

    def readdir(self, fid: int, offset: int = 0, count: int = 4096) -> list[Entry]:
        body, at, found = self.ask(40, struct.pack("<IQI", fid, offset, count)), 4, []
        while at < len(body):
            _, _, path, next_one, kind, size = struct.unpack_from("<BIQQBH", body, at)
            found.append(Entry(body[at + 24 : at + 24 + size], kind, next_one, path))
            at += 24 + size
        return found

    def entries(self, fid: int, count: int = 4096) -> list[Entry]:
        """All of an open folder."""
        found: list[Entry] = []
        while part := self.readdir(fid, found[-1].offset if found else 0, count):
            found += part
        return found

    # --- attributes ---

    def getattr(self, fid: int, mask: int = BASIC) -> Attributes:
        body = self.ask(24, struct.pack("<IQ", fid, mask))
        valid, *qid = struct.unpack_from("<QBIQ", body)
        mode, uid, gid, links, _, size, _, blocks, _, _, seconds, rest = struct.unpack_from("<IIIQQQQQQQQQ", body, 21)
        return Attributes(valid, Qid(*qid), mode, uid, gid, links, size, blocks, seconds * 10**9 + rest)

    def setattr(
        self,
        fid: int,
        valid: int,
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        atime: int = 0,
        mtime: int = 0,
    ) -> None:
        times = (*divmod(atime, 10**9), *divmod(mtime, 10**9))
        self.ask(26, struct.pack("<IIIIIQQQQQ", fid, valid, mode, uid, gid, size, *times))

    def statfs(self, fid: int) -> tuple[int, ...]:
        return struct.unpack("<IIQQQQQQI", self.ask(8, struct.pack("<I", fid)))

    def getxattr(self, fid: int, name: bytes) -> bytes:
        """The value, or for b"" the names."""
        self._fid += 1
        new = self._fid
        self.ask(30, struct.pack("<II", fid, new) + string(name))
        value = self.read(new)
        self.clunk(new)
        return value

    def setxattr(self, fid: int, name: bytes, value: bytes, flags: int = 0) -> None:
        new = self.at(fid=fid)
        try:
            self.ask(32, struct.pack("<I", new) + string(name) + struct.pack("<QI", len(value), flags))
            if value:
                self.write(new, value)
        finally:
            self.clunk(new)

    # --- locks ---

    def lock(self, fid: int, kind: int, start: int = 0, length: int = 0, process: int = 1) -> int:
        """The status."""
        body = struct.pack("<IBIQQI", fid, kind, 0, start, length, process) + string(b"guest")
        return self.ask(52, body)[0]

    def getlock(self, fid: int, kind: int, start: int = 0, length: int = 0, process: int = 1) -> tuple[int, int, int]:
        """(kind, start, length) of what is in the way."""
        body = self.ask(54, struct.pack("<IBQQI", fid, kind, start, length, process) + string(b"guest"))
        found = struct.unpack_from("<BQQ", body)
        return found[0], found[1], found[2]
