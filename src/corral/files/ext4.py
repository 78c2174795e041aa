"""What an ext2, ext3 or ext4 file system says of itself; read from its bytes, trusting none of them.

Source: Documentation/filesystems/ext4 (super.rst, group_descr.rst, inodes.rst).
"""

from __future__ import annotations

import struct

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]  # up to so many bytes at an offset: fewer at the end

ROOT_INODE = 2
SUPERBLOCK, _SIZE = 1024, 1024
_MAGIC = 0xEF53
_HAS_JOURNAL = 0x4  # compatible features
_RECOVER, _EXTENTS, META_BG, SIXTY_FOUR_BIT, _FLEX_BG = 0x4, 0x40, 0x10, 0x80, 0x200  # incompatible features
_ITABLE_UNUSED_HIGH = 0x32
_INODE_UNINIT = 0x1


@record(frozen=True)
class Superblock:
    """Sizes are in bytes. `kind` is ext2, ext3 or ext4; `clean`: unmounted, with nothing in the journal."""

    kind: str
    label: bytes
    uuid: bytes
    block_size: int
    size: int
    free: int
    inodes: int
    free_inodes: int
    clean: bool
    first_block: int
    inode_size: int
    inodes_per_group: int
    descriptor_size: int
    groups: int
    blocks_per_group: int
    incompatible: int
    read_only_compatible: int
    first_meta_group: int


def superblock(read: Read) -> Superblock | None:
    """None where there is no such file system, or one whose numbers cannot be."""
    data = read(SUPERBLOCK, _SIZE)
    if len(data) < _SIZE or data[0x38:0x3A] != _MAGIC.to_bytes(2, "little"):
        return None
    inodes, blocks, _, free, free_inodes, first_block, log_size = struct.unpack_from("<7I", data, 0)
    blocks_per_group, _, inodes_per_group = struct.unpack_from("<3I", data, 0x20)
    state = struct.unpack_from("<H", data, 0x3A)[0]
    revision = struct.unpack_from("<I", data, 0x4C)[0]
    inode_size, _, compatible, incompatible, read_only_compatible = struct.unpack_from("<HHIII", data, 0x58)
    descriptor_size = 32
    if incompatible & SIXTY_FOUR_BIT:
        descriptor_size = struct.unpack_from("<H", data, 0xFE)[0]
        blocks |= struct.unpack_from("<I", data, 0x150)[0] << 32
        free |= struct.unpack_from("<I", data, 0x158)[0] << 32
    if revision == 0:
        inode_size = 128
    if not (log_size <= 6 and blocks > 0 and free <= blocks and free_inodes <= inodes and blocks_per_group):
        return None
    if not (inodes_per_group and 128 <= inode_size <= 1024 << log_size and 32 <= descriptor_size <= 1024):
        return None
    ext4 = incompatible & (_EXTENTS | SIXTY_FOUR_BIT | _FLEX_BG)
    return Superblock(
        kind="ext4" if ext4 else "ext3" if compatible & _HAS_JOURNAL else "ext2",
        label=data[0x78:0x88].partition(b"\0")[0],
        uuid=data[0x68:0x78],
        block_size=1024 << log_size,
        size=blocks * (1024 << log_size),
        free=free * (1024 << log_size),
        inodes=inodes,
        free_inodes=free_inodes,
        clean=bool(state & 1) and not state & 2 and not incompatible & _RECOVER,
        first_block=first_block,
        inode_size=inode_size,
        inodes_per_group=inodes_per_group,
        descriptor_size=descriptor_size,
        groups=-(-(blocks - first_block) // blocks_per_group) if not incompatible & META_BG else 0,
        blocks_per_group=blocks_per_group,
        incompatible=incompatible,
        read_only_compatible=read_only_compatible,
        first_meta_group=struct.unpack_from("<I", data, 0x104)[0],
    )


@record(frozen=True)
class Inode:
    """`number` as debugfs takes it in <>; `mode` with the file's type; times in seconds."""

    number: int
    mode: int
    uid: int
    gid: int
    atime: int


def inodes(read: Read, system: Superblock) -> Iterator[Inode]:
    """The inodes in use of a file system that mke2fs has just made, none of the reserved ones but the root."""
    table = (system.first_block + 1) * system.block_size
    inode = struct.Struct(f"<HHIIIIIHH92xHH{system.inode_size - 0x7C}x")
    for group in range(system.groups):
        at = read(table + group * system.descriptor_size, system.descriptor_size)
        start, flags, unused = int.from_bytes(at[8:12], "little"), *struct.unpack_from("<H8xH", at, 0x12)
        if system.descriptor_size >= 64:
            start |= int.from_bytes(at[0x28:0x2C], "little") << 32
            unused |= int.from_bytes(at[_ITABLE_UNUSED_HIGH : _ITABLE_UNUSED_HIGH + 2], "little") << 16
        if flags & _INODE_UNINIT:
            continue
        used = (system.inodes_per_group - unused) * system.inode_size
        first = group * system.inodes_per_group + 1
        data = read(start * system.block_size, used)
        for number, fields in enumerate(inode.iter_unpack(data), first):
            mode, uid, _, atime, _, _, _, gid, links, uid_high, gid_high = fields
            if links and (number == ROOT_INODE or number > 10):
                yield Inode(number, mode, uid | uid_high << 16, gid | gid_high << 16, atime)
