"""Magic numbers: what a file begins with, by its format. Each is here once.

A row of a table is (offset, magic number, name); the first row that fits is taken, so the longer number comes first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = tuple[int, bytes, str]

ELF = b"\x7fELF"
CPIO = (b"070701", b"070702")  # "newc", without and with checksums: those that Linux unpacks
TAR = (257, b"ustar")
EXT = (0x438, b"\x53\xef")  # ext2, ext3 and ext4
ISO = (0x8001, b"CD001")
SQUASHFS = b"hsqs"
GPT = b"EFI PART"

# What Linux and its initramfs are compressed with (scripts/Makefile.lib, lib/decompress.c); lz4 is its legacy frame.
COMPRESSED = {
    "gzip": (b"\x1f\x8b", b"\x1f\x9e"),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ\0",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
    "lz4": (b"\x02\x21\x4c\x18",),
    "lzo": (b"\x89LZO\0\r\n\x1a\n",),
    "lzma": (b"\x5d\0\0",),
}
LONGEST_COMPRESSED = 9  # bytes: as many are enough for compression()

# Images of disks that are not raw.
IMAGES: tuple[Row, ...] = (
    (0, b"QFI\xfb\0\0\0\1", "qcow"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "QED"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"conectix", "VHD"),
    (0, b"vhdxfile", "VHDX"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
)

# File systems and what else partitions hold; ext2 to ext4 are told by their superblock (ext4.py).
VOLUMES: tuple[Row, ...] = (
    (0, b"XFSB", "XFS"),
    (0x10040, b"_BHRfS_M", "Btrfs"),
    (0, SQUASHFS, "SquashFS"),
    (*ISO, "ISO 9660"),
    (0x400, b"\x10\x20\xf5\xf2", "F2FS"),
    (0x400, b"\xe2\xe1\xf5\xe0", "EROFS"),
    (0x8000, b"JFS1", "JFS"),
    (0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", "bcachefs"),
    (0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    *((at, b"LABELONE", "LVM") for at in (0x200, 0, 0x400, 0x600)),
    *((at, b"\xfc\x4e\x2b\xa9", "Linux RAID") for at in (0x1000, 0)),
    (0x1055C, b"\x19\x01\x54\x19", "UFS"),
    (4086, b"SWAPSPACE2", "Linux swap"),
    (0x52, b"FAT32   ", "FAT32"),
    (0x36, b"FAT16   ", "FAT16"),
    (0x36, b"FAT12   ", "FAT12"),
    (3, b"NTFS    ", "NTFS"),
    (3, b"EXFAT   ", "exFAT"),
    (3, b"-FVE-FS-", "BitLocker"),
)


def compression(head: bytes) -> str:
    """The name in COMPRESSED of what data that begins with `head` is compressed with; "" for none."""
    return next((name for name, magics in COMPRESSED.items() if head.startswith(magics)), "")


def named(head: bytes, rows: Iterable[Row]) -> str:
    """The name of the first of `rows` that fits a file that begins with `head`; "" for none."""
    return next((name for offset, magic, name in rows if head.startswith(magic, offset)), "")
