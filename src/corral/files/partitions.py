"""Partition tables, MBR and GPT: what they say, whatever they say.

Sources: UEFI specification, chapter 5; for the MBR's types, the table that fdisk prints.
"""

from __future__ import annotations

import struct

from corral.files import magic
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.ext4 import Read

SECTOR, _LARGE_SECTOR = 512, 4096
_MOST = 128  # that are listed: GPT has room for as many, unless somebody wants it otherwise
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE

_MBR_TYPES = {
    0x07: "NTFS or exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32",
    0x0E: "FAT16",
    0x82: "Linux swap",
    0x83: "Linux",
    0x8E: "Linux LVM",
    0xEF: "EFI system",
    0xFD: "Linux RAID",
    **dict.fromkeys(_EXTENDED, "extended"),
}
_GPT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux boot",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "basic data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "Linux server data",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "Linux variable data",
    "7ec6f557-3bc5-4aca-b293-16ef5df639d1": "Linux temporary data",
    "8484680c-9521-48c6-9c11-b0720656f69e": "Linux /usr (x86-64)",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux root verity (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "LUKS",
    "6a898cc3-1dd2-11b2-99a6-080020736631": "ZFS",
}


@record(frozen=True)
class Partition:
    """`number` as Linux counts them; `start` and `size` are in bytes, and may lie outside of the image."""

    number: int
    start: int
    size: int
    type: str
    name: str = ""


@record(frozen=True)
class PartitionTable:
    """`kind` is MBR or GPT; `flaw` says what is wrong with it."""

    kind: str
    partitions: tuple[Partition, ...]
    flaw: str = ""


def sector_size(read: Read) -> int:
    """Of an image, in bytes, as the tool that partitioned it took it: 4096 where a GPT says so, else 512."""
    at_512, at_4096 = (read(size, len(magic.GPT)) == magic.GPT for size in (SECTOR, _LARGE_SECTOR))
    return _LARGE_SECTOR if at_4096 and not at_512 else SECTOR


def table(read: Read, sector: int = 0) -> PartitionTable | None:
    """None where there is no partition table. `sector` is the disk's, in bytes; 0: as the table has it."""
    first = read(0, SECTOR)
    if len(first) < SECTOR or first[510:] != b"\x55\xaa":
        return None
    entries = _mbr_entries(first)
    if entries is None:
        return None
    unit = sector or sector_size(read)
    if any(kind == _PROTECTIVE for _, _, _, kind in entries):
        return _gpt(read, unit)
    found, flaw = [], ""
    for number, start, sectors, kind in entries:
        found.append(Partition(number, start * unit, sectors * unit, _mbr_type(kind)))
        if kind in _EXTENDED:
            logical, whole = _logical(read, start, unit)
            found += logical
            flaw = flaw if whole else f"its extended partition goes on after {_MOST} tables, which were not looked at"
    return PartitionTable("MBR", tuple(found), flaw) if found else None


def _mbr_type(kind: int) -> str:
    return _MBR_TYPES.get(kind, f"type {kind:02x}")


def _mbr_entries(sector: bytes) -> list[tuple[int, int, int, int]] | None:
    """Number, start, sectors and type of what is in a sector of partition entries. None: it is something else, a boot
    sector of FAT mostly, which ends in the same two bytes."""
    found = []
    for number in range(4):
        active, kind, start, sectors = struct.unpack_from("<B3xB3xII", sector, 446 + 16 * number)
        if active not in (0, 0x80):
            return None
        if kind and sectors:
            found.append((number + 1, start, sectors, kind))
    return found


def _logical(read: Read, base: int, unit: int) -> tuple[list[Partition], bool]:
    """The chain of an extended partition, and whether that is all of it; it may be a loop."""
    found: list[Partition] = []
    at = base
    for _ in range(_MOST):
        sector = read(at * unit, SECTOR)
        entries = _mbr_entries(sector) if len(sector) == SECTOR and sector[510:] == b"\x55\xaa" else None
        chain = 0
        for _, start, sectors, kind in entries or ():
            if kind in _EXTENDED:
                chain = base + start
            else:
                found.append(Partition(5 + len(found), (at + start) * unit, sectors * unit, _mbr_type(kind)))
        if chain <= at:  # none, or not onwards
            return found[:_MOST], True
        at = chain
    return found[:_MOST], False


def _gpt(read: Read, unit: int) -> PartitionTable:
    import zlib
    from uuid import UUID

    header = read(unit, SECTOR)
    if len(header) < SECTOR or not header.startswith(magic.GPT):
        return PartitionTable("GPT", (), "its header is missing")
    header_size, checksum = struct.unpack_from("<II", header, 12)
    at, count, size, entries_checksum = struct.unpack_from("<QIII", header, 72)
    if not 92 <= header_size <= SECTOR or zlib.crc32(header[:16] + bytes(4) + header[20:header_size]) != checksum:
        return PartitionTable("GPT", (), "its header is damaged")
    if not 128 <= size <= 4096 or size % 8 or count > 1024:
        return PartitionTable("GPT", (), "its header has numbers that cannot be")
    entries = read(at * unit, count * size)
    flaw = "" if zlib.crc32(entries) == entries_checksum else "its entries are damaged"
    found: list[Partition] = []
    for number in range(len(entries) // size):
        kind, _, start, last, _, name = struct.unpack_from("<16s16sQQQ72s", entries, number * size)
        if any(kind) and start <= last and len(found) < _MOST:
            guid = str(UUID(bytes_le=kind))
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            type = _GPT_TYPES.get(guid, f"type {guid}")
            found.append(Partition(number + 1, start * unit, (last - start + 1) * unit, type, text))
    return PartitionTable("GPT", tuple(found), flaw)
