"""Writing EROFS, Linux's read-only file system, from start to end and without root: uncompressed, in blocks of 4 KiB.

What is written is written once, but for the folders' names and the numbers of links, which come last. A file's whole
blocks lie where the writer is; its inode and what remains of it (EROFS's "tail") share a block with others of their
kind. Inodes are of the extended form: 64 bytes, with 32-bit owners and a time.

Source: Linux, fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.
"""

from __future__ import annotations

import os
import stat
import struct

from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.files.xattr import Pairs

    Pieces = Iterable[tuple[int, memoryview]]
    Entry = tuple[bytes, int, int]  # name, nid, st_mode

BLOCK = 4096
_ROOT_BLOCK = 1  # behind the superblock's
ROOT = _ROOT_BLOCK * BLOCK // 32  # the root's nid
XATTR_ROOM = 3072  # bytes of an inode's extended attributes
LONGEST_NAME = 255
_MOST_BLOCKS = (1 << 32) - 1
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHH38x")
_SUPERBLOCK_AT, _MAGIC, _MTIME = 1024, 0xE0F5E1E2, 2  # _MTIME: the times are those of content
_INODE = struct.Struct("<HHHHQIIIIQII16x")
_NLINK_AT = 44
_EXTENDED, _PLAIN, _INLINE = 1, 0 << 1, 2 << 1
_SLOT = 32  # bytes: an inode's number counts these from the image's start
_DIRENT = struct.Struct("<QHBx")
_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}
_ACLS = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_RUN = 16  # blocks of inodes beside each other
_LOOKED_AT = 4  # places where there may be room yet
_ZEROS = memoryview(bytes(1 << 16))


@record(frozen=True)
class Meta:
    """`mode` has the kind of file in it, as st_mode has; `mtime` is in seconds."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Pairs = ()


@record(frozen=True)
class Placed:
    """Where a file is: its inode's number, and the blocks that are its alone."""

    nid: int
    start: int = 0
    blocks: int = 0


class Writer:
    """Fills the empty file `fd`. `limit`: bytes; what would be longer ends with Flaw(too_large)."""

    def __init__(self, fd: int, limit: int, too_large: str) -> None:
        self._fd = fd
        self._most = min(limit // BLOCK, _MOST_BLOCKS)
        self._too_large = too_large
        self._next = _ROOT_BLOCK + 1
        self._freed: list[tuple[int, int]] = []  # (start, blocks)
        self._run = bytearray(_RUN * BLOCK)
        self._run_at = 0  # its block; 0: there is none yet
        self._used = [BLOCK] * _RUN
        self._open = 0  # the first block of the run that may have room
        self._inodes = 0

    def file(self, meta: Meta, size: int, pieces: Pieces) -> Placed:
        """A file of `size` bytes, or a symbolic link; where the `pieces`, (offset, bytes) in ascending order, have
        none are zeros."""
        attributes = _xattrs(meta.xattrs)
        blocks, inline = _shape(size, len(attributes))
        start, stale = self._take(blocks)
        end = blocks * BLOCK if inline else size
        tail = self._write(start, end, size - end, pieces, stale)
        head = _inode(meta, inline, size, start, len(attributes))
        return Placed(self._place(head + attributes + tail), start, blocks)

    def special(self, meta: Meta, device: tuple[int, int] = (0, 0)) -> Placed:
        """A device (major, minor) or a FIFO."""
        major, minor = device
        number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
        attributes = _xattrs(meta.xattrs)
        return Placed(self._place(_inode(meta, False, 0, number, len(attributes)) + attributes))

    def place_folder(self, meta: Meta, names: Iterable[bytes], is_root: bool = False) -> Placed:
        """Room for a folder with these names, "." and ".." among them. What is in it is told by folder(), once flush()
        was called."""
        attributes = _xattrs(meta.xattrs)
        size = _folder_size(sorted(names))
        blocks, inline = _shape(size, len(attributes))
        start, _ = self._take(blocks)
        data = _inode(meta, inline, size, start, len(attributes)) + attributes
        if not is_root:
            return Placed(self._place(data + bytes(size - blocks * BLOCK if inline else 0)), start, blocks)
        _write(self._fd, memoryview(data), _ROOT_BLOCK * BLOCK)
        self._inodes += 1
        return Placed(ROOT, start, blocks)

    def folder(self, placed: Placed, meta: Meta, entries: list[Entry]) -> None:
        """`entries` has the names that the folder was placed for."""
        data = memoryview(_folder(sorted(entries)))
        behind = placed.nid * _SLOT + _INODE.size + len(_xattrs(meta.xattrs))
        whole = placed.blocks * BLOCK
        _write(self._fd, data[:whole], placed.start * BLOCK)
        _write(self._fd, data[whole:], behind)

    def links(self, nid: int, count: int) -> None:
        """How many names a file has, if not one; after flush()."""
        _write(self._fd, memoryview(count.to_bytes(4, "little")), nid * _SLOT + _NLINK_AT)

    def free(self, placed: Placed) -> None:
        """The file is in no folder: others may have its blocks."""
        if placed.blocks:
            self._freed.append((placed.start, placed.blocks))

    def flush(self) -> None:
        if self._run_at:
            _write(self._fd, memoryview(self._run), self._run_at * BLOCK)

    def finish(self) -> None:
        """The superblock, last: without it there is no file system."""
        blank = bytes(16)
        superblock = _SUPERBLOCK.pack(
            _MAGIC, 0, _MTIME, 12, 0, ROOT, self._inodes, 0, 0, self._next, 0, 0, blank, blank, 0, 0, 0, 0
        )
        os.ftruncate(self._fd, self._next * BLOCK)
        _write(self._fd, memoryview(superblock), _SUPERBLOCK_AT)

    def _take(self, blocks: int) -> tuple[int, bool]:
        """Where so many blocks are free, and whether they may hold something of old."""
        if not blocks:
            return 0, False
        for at in range(len(self._freed) - 1, max(-1, len(self._freed) - 1 - _LOOKED_AT), -1):
            start, room = self._freed[at]
            if room >= blocks:
                self._freed[at] = (start + blocks, room - blocks)
                if room == blocks:
                    del self._freed[at]
                return start, True
        start = self._next
        self._next += blocks
        if self._next > self._most:
            raise Flaw(self._too_large)
        return start, False

    def _write(self, start: int, end: int, rest: int, pieces: Pieces, stale: bool) -> bytes:
        """What comes before `end` goes to the blocks from `start`; the `rest` bytes behind are given back."""
        tail = bytearray(rest)
        at = 0
        for offset, piece in pieces:
            if offset < end:
                if stale:
                    _zero(self._fd, start * BLOCK + at, offset - at)
                part = piece[: end - offset]
                _write(self._fd, part, start * BLOCK + offset)
                at = offset + len(part)
                offset, piece = at, piece[len(part) :]
            tail[offset - end : offset - end + len(piece)] = piece
        if stale:
            _zero(self._fd, start * BLOCK + at, -(-end // BLOCK) * BLOCK - at)
        return bytes(tail)

    def _place(self, data: bytes) -> int:
        """Puts an inode and what is behind it into a block; gives its number."""
        self._inodes += 1
        room = BLOCK - len(data)
        for at in range(self._open, min(self._open + _LOOKED_AT, _RUN)):
            if self._used[at] <= room:
                break
        else:
            self._open = min(self._open + 1, _RUN - _LOOKED_AT)
            at = next((at for at in range(self._open, _RUN) if self._used[at] <= room), _RUN)
        if at == _RUN:
            self.flush()
            self._run_at, _ = self._take(_RUN)
            self._run = bytearray(_RUN * BLOCK)
            self._used = [0] * _RUN
            self._open = at = 0
        begin = at * BLOCK + self._used[at]
        self._run[begin : begin + len(data)] = data
        self._used[at] += -(-len(data) // _SLOT) * _SLOT
        return (self._run_at * BLOCK + begin) // _SLOT


def _shape(size: int, attributes: int) -> tuple[int, bool]:
    """How many blocks a file has for itself, and whether the last bytes are behind its inode."""
    whole, rest = divmod(size, BLOCK)
    inline = 0 < rest <= BLOCK - _INODE.size - attributes
    return whole + (rest > 0 and not inline), inline


def _inode(meta: Meta, inline: bool, size: int, number: int, attributes: int) -> bytes:
    """`number`: of the first block, or a device's."""
    links = 2 if stat.S_ISDIR(meta.mode) else 1
    count = (attributes - 12) // 4 + 1 if attributes else 0
    form = _EXTENDED | (_INLINE if inline else _PLAIN)
    return _INODE.pack(form, count, meta.mode, 0, size, number, 0, meta.uid, meta.gid, meta.mtime, 0, links)


def _xattrs(pairs: Pairs) -> bytes:
    """As they lie behind an inode. Raises Flaw where there is no room for them."""
    if not pairs:
        return b""
    parts = [bytes(12)]  # no shared ones
    for name, value in sorted(pairs):
        index, short = _ACLS.get(name, 0), b""
        if not index:
            prefix, index = next(row for row in _PREFIXES if name.startswith(row[0]))
            short = name[len(prefix) :]
        if len(name) > LONGEST_NAME or len(value) > XATTR_ROOM or b"\0" in name:
            raise Flaw("has an extended attribute with a name or a value that is too long; make it again without")
        entry = bytes((len(short), index)) + len(value).to_bytes(2, "little") + short + value
        parts.append(entry + bytes(-len(entry) % 4))
    data = b"".join(parts)
    if len(data) > XATTR_ROOM:
        raise Flaw(f"has more than {XATTR_ROOM} bytes of extended attributes; make it with fewer")
    return data


def _blocks(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The names that are in each block of a folder."""
    block: list[bytes] = []
    room = BLOCK
    for name in names:
        needed = _DIRENT.size + len(name)
        if needed > room:
            yield block
            block, room = [], BLOCK
        block.append(name)
        room -= needed
    yield block


def _folder_size(names: list[bytes]) -> int:
    *whole, last = (sum(_DIRENT.size + len(name) for name in block) for block in _blocks(names))
    return len(whole) * BLOCK + last


def _folder(entries: list[Entry]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for names in _blocks(name for name, _, _ in entries):
        parts.append(bytes(-sum(map(len, parts[-2:])) % BLOCK if parts else 0))  # what the block before has left
        offset = len(names) * _DIRENT.size
        heads = []
        for name, nid, mode in entries[at : at + len(names)]:
            heads.append(_DIRENT.pack(nid, offset, _TYPES[stat.S_IFMT(mode)]))
            offset += len(name)
        at += len(names)
        parts += [b"".join(heads), b"".join(names)]
    return b"".join(parts)


def _zero(fd: int, start: int, length: int) -> None:
    while length > 0:
        part = min(length, len(_ZEROS))
        _write(fd, _ZEROS[:part], start)
        start, length = start + part, length - part


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        offset, data = offset + done, data[done:]
