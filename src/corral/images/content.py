"""What an image, or a partition of one, holds: in words for a person, by magic numbers. Nothing depends on it."""

from __future__ import annotations

import struct

from corral.files import ext4, magic
from corral.files.file import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.ext4 import Read

# Of ZFS there is no magic number in one place: a ring of 128 states, some of which are empty.
_ZFS_AT, _ZFS_SIZE, _ZFS_STEP, _ZFS = 0x20000, 0x20000, 1024, struct.pack("<Q", 0x00BAB10C)
_LABELS = {"XFS": (108, 12), "Btrfs": (0x1012B, 256), "ISO 9660": (0x8028, 32)}


def size_text(size: int) -> str:
    """The same number for a person: 4 GiB, 1.5 MiB, 512 bytes."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.4g} {unit}"
    return f"{size} bytes"


def volume(read: Read) -> str | None:
    """The name of what begins like this, ext2 and its successors apart."""
    if found := next((name for offset, word, name in magic.VOLUMES if read(offset, len(word)) == word), None):
        return found
    states = read(_ZFS_AT, _ZFS_SIZE)
    return "ZFS" if any(states.startswith(_ZFS, at) for at in range(0, len(states), _ZFS_STEP)) else None


def system(read: Read) -> tuple[str, str]:
    """The name of the file system, or of what else is there, and its label: hostile, not for a terminal."""
    if found := ext4.superblock(read):
        return found.kind, found.label.decode(errors="replace")
    name = volume(read) or ""
    if name == "F2FS":
        return name, read(0x47C, 1024).decode("utf-16-le", "replace").partition("\0")[0]
    at, length = _LABELS.get(name, (0, 0))
    return name, read(at, length).partition(b"\0")[0].decode(errors="replace").strip()


def describe(read: Read) -> list[str]:
    """Lines; none where nothing is recognised."""
    system = ext4.superblock(read)
    if system is not None:
        from uuid import UUID

        # A guest chose the label: no escape sequence of its gets to the terminal.
        label = printable(system.label.decode(errors="replace")) if system.label else "no label"
        state = "" if system.clean else "; not unmounted cleanly"
        return [
            f"{system.kind}, {label}, UUID {UUID(bytes=system.uuid)}, blocks of {system.block_size}{state}",
            f"{size_text(system.free)} of {size_text(system.size)} free, "
            f"{system.free_inodes} of {system.inodes} inodes free",
        ]
    if (name := volume(read)) is not None:
        return [name]
    if read(magic.TAR[0], len(magic.TAR[1])) == magic.TAR[1]:
        return ["a tar archive; make an image of it: corral image from-tar"]
    form = magic.compression(read(0, magic.LONGEST_COMPRESSED))
    return [f"data compressed with {form}; if that is an image, unpack it first"] if form else []
