"""What an image, or a partition of one, holds: in words for a person, by magic numbers. Nothing depends on it."""

from __future__ import annotations

from corral.boot import decompress
from corral.boot.file import printable
from corral.images import ext4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.images.ext4 import Read

_MAGICS = (
    (0, b"XFSB", "XFS"),
    (0x10040, b"_BHRfS_M", "Btrfs"),
    (0, b"hsqs", "SquashFS"),
    (0x8001, b"CD001", "ISO 9660"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (4086, b"SWAPSPACE2", "Linux swap"),
    (0x52, b"FAT32   ", "FAT32"),
    (0x36, b"FAT16   ", "FAT16"),
    (0x36, b"FAT12   ", "FAT12"),
    (3, b"NTFS    ", "NTFS"),
    (257, b"ustar", "a tar archive; make an image of it: corral image from-tar"),
)


def size_text(size: int) -> str:
    """The same number for a person: 4 GiB, 1.5 MiB, 512 bytes."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.4g} {unit}"
    return f"{size} bytes"


def magic(read: Read) -> str | None:
    """The name of what begins like this, ext2 and its successors apart."""
    return next((name for offset, word, name in _MAGICS if read(offset, len(word)) == word), None)


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
    if (name := magic(read)) is not None:
        return [name]
    form = decompress.identify(read(0, decompress.MAGIC_SIZE))
    return [f"data compressed with {form.name}; if that is an image, unpack it first"] if form and form.packs else []
