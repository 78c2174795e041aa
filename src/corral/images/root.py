"""Where on a disk the root file system is: the disk itself or a partition, by what its bytes say."""

from __future__ import annotations

import os

from corral.images import content, ext4, partitions
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.images.ext4 import Read
    from corral.images.partitions import Partition

# What Linux mounts as its root.
_MOUNTABLE = ("ext2", "ext3", "ext4", "XFS", "Btrfs", "SquashFS", "ISO 9660")
_ROOT_TYPE = "Linux root (x86-64)"
_LVM_AT, _LVM = 0x218, b"LVM2 001"


@record(frozen=True)
class Root:
    """`partition` counts as Linux does, 0 for the whole disk. `system` is "ext4", "XFS"...; what Linux cannot mount by
    itself ("LUKS", "LVM") is named too, and "" is nothing that is known. `table` is "MBR", "GPT" or ""."""

    partition: int
    system: str
    table: str

    @property
    def mountable(self) -> bool:
        return self.system in _MOUNTABLE


def find(path: str) -> Root | None:
    """None when it cannot be read: whoever opens the disk says so."""
    try:
        # O_NONBLOCK: a FIFO must not hold us up.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        return _find(lambda offset, length: os.pread(fd, length, offset) if offset < 1 << 62 else b"")
    except OSError:
        return None
    finally:
        os.close(fd)


def _find(read: Read) -> Root:
    table = partitions.table(read)
    system = _system(read)
    if table is None or system in _MOUNTABLE:  # an ISO image may have both
        return Root(0, system, "")
    found = [(part, _system(_within(read, part))) for part in table.partitions]
    best = max(found, key=_rank, default=None)
    if best is None:
        return Root(0, "", table.kind)
    return Root(best[0].number, best[1], table.kind)


def _rank(candidate: tuple[Partition, str]) -> tuple[bool, bool, int]:
    part, system = candidate
    return system in _MOUNTABLE, part.type == _ROOT_TYPE, part.size


def _within(read: Read, part: Partition) -> Read:
    def within(offset: int, length: int) -> bytes:
        return read(part.start + offset, max(0, min(length, part.size - offset)))

    return within


def _system(read: Read) -> str:
    found = ext4.superblock(read)
    if found is not None:
        return found.kind
    if read(_LVM_AT, len(_LVM)) == _LVM:
        return "LVM"
    return content.magic(read) or ""
