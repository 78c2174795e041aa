"""The files of an ext2, ext3 or ext4 file system, read without mounting it; every number in it is hostile.

Nothing is written, and the journal is not replayed: of a file system that was not unmounted the last moments may be
missing. Sources: Documentation/filesystems/ext4 (group_descr.rst, inodes.rst, ifork.rst, directory.rst).
"""

from __future__ import annotations

import stat
import struct

from corral.files.ext4 import META_BG, ROOT_INODE, SIXTY_FOUR_BIT, SUPERBLOCK
from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.ext4 import Read, Superblock

MOST_LINKS = 40  # symbolic ones on the way to a file, as Linux has it
MOST_OF_FOLDERS = 4 << 20  # bytes of folders that are read of a disk
MOST_MAP_BLOCKS = 1024  # blocks of extents or of block numbers that are read for one file
_LONGEST_LINK = 4096
# Features that change where things are, and are known here or do not matter to who only reads.
_KNOWN = 0x2 | 0x4 | META_BG | 0x40 | SIXTY_FOUR_BIT | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000
_KNOWN |= 0x10000 | 0x20000  # some of its files are encrypted, some folders do not tell a from A
_SPARSE_SUPER = 0x1  # a feature that a reader may ignore but for where groups begin
_ENCRYPTED, _EXTENTS, _INLINE = 0x800, 0x80000, 0x10000000  # an inode's flags
_EXTENT_MAGIC, _DEEPEST = 0xF30A, 5
_UNWRITTEN = 32768  # longer extents have room on the disk, and no content
_DIRECT = 12


@record(frozen=True)
class Ext4Node:
    """An inode: its mode with the file's type, its size in bytes, and where its blocks are, undecoded."""

    number: int
    mode: int
    size: int
    flags: int
    blocks: bytes

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Allowance:
    """How many bytes of folders may be read yet: of all file systems of a disk, for it may name one again and again."""

    def __init__(self) -> None:
        self.left = MOST_OF_FOLDERS


class Ext4Files:
    """Paths are looked up as if the file system were the root, links included. Raises Flaw for what is damaged, and for
    features that change where things are and are not known here."""

    def __init__(self, read: Read, system: Superblock, allowance: Allowance | None = None) -> None:
        if unknown := system.incompatible & ~_KNOWN:
            raise Flaw(f"has features that Corral does not know ({unknown:#x})")
        self._read, self._system = read, system
        self._folders: dict[int, dict[str, int]] = {}
        self._names: dict[int, list[str]] = {}
        self._allowance = allowance or Allowance()

    def find(self, path: str) -> Ext4Node | None:
        """The file at `path`; None where there is none, or where a link leads out of this file system."""
        return self._walk(path, follow=True)

    def has(self, path: str) -> bool:
        """Whether there is a file, or a link to where another file system is mounted."""
        return self._walk(path, follow=False) is not None

    def link(self, path: str) -> str:
        """What the symbolic link at `path` says; "" where there is none."""
        node = self._walk(path, follow=False)
        return self._target(node) if node and stat.S_ISLNK(node.mode) else ""

    def names(self, path: str) -> list[str]:
        """What is in a folder; nothing where there is none."""
        node = self.find(path)
        if node is None or not node.is_folder:
            return []
        if node.number not in self._names:
            self._names[node.number] = sorted(set(self._entries(node)) - {".", ".."})
        return self._names[node.number]

    def pieces(self, node: Ext4Node) -> Iterator[bytes]:
        """The content, in order, in pieces of at most 1 MiB."""
        if node.flags & _ENCRYPTED:
            raise Flaw("has an encrypted file where a plain one is needed")
        if node.flags & _INLINE:
            if node.size > len(node.blocks):
                raise Flaw("keeps a file in its inode in a way that Corral does not read")
            yield node.blocks[: node.size]
            return
        block, at = self._system.block_size, 0
        for first, physical, count in self._runs(node):
            if first * block >= node.size:
                break
            yield from _zeros(first * block - at)
            end = min((first + count) * block, node.size)
            at = first * block
            while at < end:
                length = min(1 << 20, end - at)
                data = self._read(physical * block + at - first * block, length) if physical else bytes(length)
                if len(data) < length:
                    raise Flaw("is cut off: a file's blocks are behind its end")
                yield data
                at += length
        yield from _zeros(node.size - at)

    def content(self, path: str, most: int) -> bytes | None:
        """All of a plain file; None where there is none or it is longer than `most` bytes."""
        node = self.find(path)
        if node is None or not node.is_file or node.size > most:
            return None
        return b"".join(self.pieces(node))

    def _walk(self, path: str, follow: bool) -> Ext4Node | None:
        way = [self._node(ROOT_INODE)]
        words = path.split("/")[::-1]
        links = 0
        while words:
            word = words.pop()
            if word in ("", "."):
                continue
            if word == "..":
                way = way[:-1] or way
                continue
            number = self._entries(way[-1]).get(word) if way[-1].is_folder else None
            if number is None:
                return None
            node = self._node(number)
            if stat.S_ISLNK(node.mode) and (words or follow):
                links += 1
                if links > MOST_LINKS:
                    return None
                target = self._target(node)
                if target.startswith("/"):
                    way = way[:1]
                words += target.split("/")[::-1]
                continue
            way.append(node)
        return way[-1]

    def _target(self, node: Ext4Node) -> str:
        if node.size > _LONGEST_LINK:
            raise Flaw("has a link that is too long")
        short = node.size < len(node.blocks) and not node.flags & _EXTENTS
        data = node.blocks[: node.size] if short else b"".join(self.pieces(node))
        return data.decode(errors="surrogateescape")

    def _entries(self, folder: Ext4Node) -> dict[str, int]:
        """Inodes by name. A folder's index looks like blocks without entries to who reads it from end to end."""
        if folder.number not in self._folders:
            if folder.size > self._allowance.left:
                raise Flaw("has folders that are too large")
            self._allowance.left -= folder.size
            if folder.flags & _INLINE:
                blocks = [folder.blocks[4:]]  # behind the number of the folder above
            else:
                data, step = b"".join(self.pieces(folder)), self._system.block_size
                blocks = [data[at : at + step] for at in range(0, len(data), step)]
            self._folders[folder.number] = dict(entry for block in blocks for entry in _dirents(block))
        return self._folders[folder.number]

    def _node(self, number: int) -> Ext4Node:
        system = self._system
        if not 1 <= number <= system.inodes:
            raise Flaw("has a name for an inode that it does not have")
        group, index = divmod(number - 1, system.inodes_per_group)
        descriptor = self._read(self._descriptor(group), system.descriptor_size)
        if len(descriptor) < system.descriptor_size:
            raise Flaw("is cut off: its groups are behind its end")
        table = int.from_bytes(descriptor[8:12], "little")
        if system.descriptor_size >= 64:
            table |= int.from_bytes(descriptor[0x28:0x2C], "little") << 32
        data = self._read(table * system.block_size + index * system.inode_size, 128)
        if len(data) < 128:
            raise Flaw("is cut off: its inodes are behind its end")
        mode, low, flags, high = *struct.unpack_from("<H2xI", data), *struct.unpack_from("<I72xI", data, 0x20)[:2]
        size = low | high << 32 if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else low
        return Ext4Node(number, mode, size, flags, data[0x28:0x64])

    def _descriptor(self, group: int) -> int:
        """Where in the file system the descriptor of a group is."""
        system = self._system
        per_block = system.block_size // system.descriptor_size
        block, index = divmod(group, per_block)
        if not system.incompatible & META_BG or block < system.first_meta_group:
            at = SUPERBLOCK // system.block_size + 1 + block
        else:
            first = block * per_block
            at = system.first_block + first * system.blocks_per_group + self._has_superblock(first)
        return at * system.block_size + index * system.descriptor_size

    def _has_superblock(self, group: int) -> bool:
        if not self._system.read_only_compatible & _SPARSE_SUPER or group <= 1:
            return True
        return any(base**power == group for base in (3, 5, 7) for power in range(1, 23))

    def _runs(self, node: Ext4Node) -> Iterator[tuple[int, int, int]]:
        """(first block of the file, block of the disk or 0 for zeros, how many), ascending. Raises Flaw."""
        budget = [MOST_MAP_BLOCKS]
        runs = self._extents(node.blocks, None, budget) if node.flags & _EXTENTS else self._mapped(node, budget)
        start, place, length = 0, 0, 0  # of neighbours together
        for first, physical, count in runs:
            if first < start + length:
                raise Flaw("has a file whose blocks are in disorder")
            if first == start + length and place and physical == place + length:
                length += count
                continue
            if length:
                yield start, place, length
            start, place, length = first, physical, count
        if length:
            yield start, place, length

    def _extents(self, data: bytes, expected: int | None, budget: list[int]) -> Iterator[tuple[int, int, int]]:
        magic, entries, _, depth = struct.unpack_from("<HHHH", data)
        if magic != _EXTENT_MAGIC or depth > _DEEPEST or entries > len(data) // 12 - 1 or expected not in (None, depth):
            raise Flaw("has a file whose list of blocks is damaged")
        for at in range(12, 12 + 12 * entries, 12):
            if depth:
                _, low, high = struct.unpack_from("<IIH", data, at)
                yield from self._extents(self._map_block(low | high << 32, budget), depth - 1, budget)
                continue
            first, count, high, low = struct.unpack_from("<IHHI", data, at)
            if count > _UNWRITTEN:
                yield first, 0, count - _UNWRITTEN
            else:
                yield first, low | high << 32, count

    def _mapped(self, node: Ext4Node, budget: list[int]) -> Iterator[tuple[int, int, int]]:
        """ext2's and ext3's way: twelve numbers of blocks, then blocks of numbers, one to three deep."""
        numbers = struct.unpack("<15I", node.blocks)
        step = self._system.block_size // 4
        wanted = -(-node.size // self._system.block_size)
        for index, physical in enumerate(numbers[:_DIRECT]):
            yield index, physical, 1
        first = _DIRECT
        for depth, physical in enumerate(numbers[_DIRECT:], 1):
            if first >= wanted:
                return
            yield from self._indirect(physical, depth, first, wanted, budget)
            first += step**depth

    def _indirect(
        self, block: int, depth: int, first: int, wanted: int, budget: list[int]
    ) -> Iterator[tuple[int, int, int]]:
        if not block:
            return  # a hole
        numbers = struct.unpack(f"<{self._system.block_size // 4}I", self._map_block(block, budget))
        each = len(numbers) ** (depth - 1)
        for index, physical in enumerate(numbers):
            here = first + index * each
            if here >= wanted:
                return
            if depth == 1:
                yield here, physical, 1
            else:
                yield from self._indirect(physical, depth - 1, here, wanted, budget)

    def _map_block(self, block: int, budget: list[int]) -> bytes:
        budget[0] -= 1
        if budget[0] < 0:
            raise Flaw("has a file in too many pieces")
        size = self._system.block_size
        data = self._read(block * size, size)
        if len(data) < size:
            raise Flaw("is cut off: a file's list of blocks is behind its end")
        return data


def _zeros(length: int) -> Iterator[bytes]:
    while length > 0:
        yield bytes(min(length, 1 << 20))
        length -= 1 << 20


def _dirents(block: bytes) -> Iterator[tuple[str, int]]:
    at = 0
    while at + 8 <= len(block):
        inode, length, name_length = struct.unpack_from("<IHB", block, at)
        if length < 8 or length % 4:
            return  # damaged: what is behind it cannot be found
        if inode and 8 + name_length <= length:
            yield block[at + 8 : at + 8 + name_length].decode(errors="surrogateescape"), inode
        at += length
