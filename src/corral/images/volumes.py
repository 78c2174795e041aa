"""A disk's parts: the partitions of its table, or the disk itself, each with what its bytes say that it holds."""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from corral.files import ext4, partitions
from corral.files.ext4_files import Allowance, Ext4Files
from corral.files.file import Flaw
from corral.images import content
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from corral.files.ext4 import Read
    from corral.files.partitions import PartitionTable

EXT = ("ext2", "ext3", "ext4")
# What Linux mounts by itself.
MOUNTABLE = (*EXT, "XFS", "Btrfs", "F2FS", "SquashFS", "EROFS", "JFS", "bcachefs", "ISO 9660")
_BLKSSZGET = 0x1268  # linux/fs.h


@record(frozen=True)
class Volume:
    """`number` is the partition's, as Linux counts them, 0 for the whole disk. `system` is "ext4", "LVM"..., "" for
    nothing that is known; `type` and `name` are the partition table's words, `label` the file system's. What was read
    of its folders is kept in `opened`."""

    number: int
    system: str
    label: str
    type: str
    name: str
    read: Read
    allowance: Allowance
    opened: list[Ext4Files | None]

    def files(self) -> Ext4Files | None:
        """None where it is none of ext2, ext3 and ext4, or damaged."""
        if not self.opened:
            self.opened.append(self._open())
        return self.opened[0]

    def _open(self) -> Ext4Files | None:
        system = ext4.superblock(self.read) if self.system in EXT else None
        try:
            return Ext4Files(self.read, system, self.allowance) if system else None
        except Flaw:
            return None


class DiskVolumes:
    """An open disk: a context manager. Raises OSError; what is damaged is as if it were not there.

    `table` is None for a disk without partitions, or with a file system of its own beside them, as an ISO image has.
    `size` is in bytes.
    """

    def __init__(self, path: str) -> None:
        # O_NONBLOCK: a FIFO must not hold us up.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            self.table, self.volumes = self._look()
        except BaseException:
            os.close(self._fd)
            raise

    def _look(self) -> tuple[PartitionTable | None, tuple[Volume, ...]]:
        sector = 0
        if stat.S_ISBLK(os.fstat(self._fd).st_mode):
            sector = struct.unpack("i", fcntl.ioctl(self._fd, _BLKSSZGET, bytes(4)))[0]
        table = partitions.table(self._read, sector)
        self.size = os.lseek(self._fd, 0, os.SEEK_END)
        allowance = Allowance()
        whole = Volume(0, *content.system(self._read), "", "", self._read, allowance, [])
        if table is None or whole.system in MOUNTABLE:
            return None, (whole,)
        found = []
        for part in table.partitions:
            read = _part(self._read, part.start, part.size)
            found.append(Volume(part.number, *content.system(read), part.type, part.name, read, allowance, []))
        return table, tuple(found)

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset) if offset < 1 << 62 else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)


def _part(read: Read, start: int, size: int) -> Read:
    def within(offset: int, length: int) -> bytes:
        return read(start + offset, max(0, min(length, size - offset)))

    return within
