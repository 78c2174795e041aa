"""Reads an EROFS image as the kernel would, for tests: written from the format's description, not from the writer."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

_PREFIXES = {1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}


@dataclass
class File:
    nid: int
    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    data: bytes  # of a symbolic link its target; of a device nothing
    device: int
    xattrs: dict[str, bytes]


def read(path: Path) -> dict[str, File]:
    """By path, "" for the root. Fails where the kernel would."""
    image = path.read_bytes()
    magic, _, _, bits, _, root, inodes = struct.unpack_from("<IIIBBHQ", image, 1024)
    assert (magic, bits) == (0xE0F5E1E2, 12)
    assert len(image) == 4096 * struct.unpack_from("<I", image, 1024 + 36)[0]
    found: dict[str, File] = {}
    waiting = [("", root)]
    while waiting:
        name, nid = waiting.pop()
        assert name not in found
        file = found[name] = _inode(image, nid)
        if stat.S_ISDIR(file.mode):
            entries = _entries(file.data)
            assert [entry[0] for entry in entries] == sorted({entry[0] for entry in entries})
            own = {entry[0]: entry[1] for entry in entries if entry[0] in (b".", b"..")}
            assert own[b"."] == nid
            for child, number, kind in entries:
                if child not in own:
                    below = f"{name}/{child.decode(errors='surrogateescape')}"
                    assert (kind == 2) == stat.S_ISDIR(_inode(image, number).mode)
                    waiting.append((below, number))
    assert len({file.nid for file in found.values()}) <= inodes
    return found


def _inode(image: bytes, nid: int) -> File:
    at = nid * 32
    form, count, mode, _, size, number, _, uid, gid, mtime, _, links = struct.unpack_from("<HHHHQIIIIQII", image, at)
    assert form & 1, "compact"
    layout = form >> 1
    assert layout in (0, 2)
    behind = at + 64
    xattrs = _xattrs(image[behind : behind + 12 + 4 * (count - 1)]) if count else {}
    behind += 12 + 4 * (count - 1) if count else 0
    data = b""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        whole = size // 4096 * 4096 if layout == 2 else size
        data = image[number * 4096 : number * 4096 + whole]
        if layout == 2:
            assert behind // 4096 == (behind + size - whole - 1) // 4096, "a tail across blocks"
            data += image[behind : behind + size - whole]
        assert len(data) == size
    return File(nid, mode, uid, gid, mtime, links, data, number, xattrs)


def _xattrs(data: bytes) -> dict[str, bytes]:
    found = {}
    at = 12
    while at < len(data):
        length, index, size = struct.unpack_from("<BBH", data, at)
        name = _PREFIXES[index] + data[at + 4 : at + 4 + length].decode()
        found[name] = data[at + 4 + length : at + 4 + length + size]
        at += -(-(4 + length + size) // 4) * 4
    return found


def _entries(data: bytes) -> list[tuple[bytes, int, int]]:
    found = []
    for begin in range(0, len(data), 4096):
        block = data[begin : begin + 4096]
        count = struct.unpack_from("<H", block, 8)[0] // 12
        offsets = [struct.unpack_from("<QHB", block, 12 * at) for at in range(count)]
        for at, (nid, offset, kind) in enumerate(offsets):
            end = offsets[at + 1][1] if at + 1 < count else len(block)
            found.append((block[offset:end].rstrip(b"\0"), nid, kind))
    return found
