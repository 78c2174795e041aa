"""Partition tables: what fdisk would say of them; whatever else they say does no harm."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from corral.files import partitions
from corral.files.partitions import SECTOR, Partition
from tests.support.file_systems import mbr

LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def gpt(*entries: tuple[UUID, int, int, str], count: int = 128, sector: int = SECTOR) -> bytes:
    """The first sectors of a disk with (type, first sector, last sector, name)."""
    table = b"".join(
        struct.pack("<16s16sQQQ72s", kind.bytes_le, bytes(16), first, last, 0, name.encode("utf-16-le"))
        for kind, first, last, name in entries
    ).ljust(128 * count, b"\0")
    rest = struct.pack("<IQQQQ16sQIII", 0, 1, 99, 34, 66, bytes(16), 2, count, 128, zlib.crc32(table))
    head = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    header = head + struct.pack("<I", zlib.crc32(head + bytes(4) + rest)) + rest
    return mbr((0xEE, 1, 99)).ljust(sector, b"\0") + header.ljust(sector, b"\0") + table


def test_mbr() -> None:
    found = partitions.table(reader(mbr((0x83, 2048, 4096), (0, 0, 0), (0x82, 6144, 8))))
    assert found is not None
    assert found.kind == "MBR"
    assert found.partitions == (
        Partition(1, 2048 * SECTOR, 4096 * SECTOR, "Linux"),
        Partition(3, 6144 * SECTOR, 8 * SECTOR, "Linux swap"),
    )


def test_logical_partitions() -> None:
    disk = bytearray(100 * SECTOR)
    disk[:SECTOR] = mbr((0x05, 10, 80))
    disk[10 * SECTOR : 11 * SECTOR] = mbr((0x83, 1, 5), (0x05, 20, 10))
    disk[30 * SECTOR : 31 * SECTOR] = mbr((0x82, 2, 6))
    found = partitions.table(reader(bytes(disk)))
    assert found is not None
    assert [(p.number, p.start // SECTOR, p.type) for p in found.partitions] == [
        (1, 10, "extended"),
        (5, 11, "Linux"),
        (6, 32, "Linux swap"),
    ]


def test_a_chain_of_logical_partitions_that_goes_in_a_circle() -> None:
    disk = bytearray(100 * SECTOR)
    disk[:SECTOR] = mbr((0x05, 10, 80))
    disk[10 * SECTOR : 11 * SECTOR] = mbr((0x83, 1, 5), (0x05, 0, 10))
    found = partitions.table(reader(bytes(disk)))
    assert found is not None
    assert len(found.partitions) == 2


def test_a_chain_without_partitions_is_followed_for_a_while_and_that_is_told() -> None:
    """An EBR a sector, each with nothing but the way to the next."""
    count, looks = 100_000, 0
    disk = mbr((0x05, 1, 1)) + b"".join(mbr((0x05, sector, 1)) for sector in range(1, count))
    read = reader(disk)

    def counted(offset: int, length: int) -> bytes:
        nonlocal looks
        looks += 1
        return read(offset, length)

    found = partitions.table(counted)
    assert found is not None
    assert found.flaw == "its extended partition goes on after 128 tables, which were not looked at"
    assert looks < 200
    whole = partitions.table(reader(mbr((0x05, 1, 9)) + mbr((0x83, 1, 5))))
    assert whole is not None
    assert (whole.flaw, len(whole.partitions)) == ("", 2)


def test_gpt() -> None:
    found = partitions.table(reader(gpt((LINUX, 40, 49, "root"), (UUID(int=7), 50, 50, "…"))))
    assert found is not None
    assert (found.kind, found.flaw) == ("GPT", "")
    assert found.partitions == (
        Partition(1, 40 * SECTOR, 10 * SECTOR, "Linux", "root"),
        Partition(2, 50 * SECTOR, SECTOR, "type 00000000-0000-0000-0000-000000000007", "…"),
    )


def test_sectors_of_4096_bytes() -> None:
    """An image shows them by where its GPT is, a device says them."""
    disk = gpt((LINUX, 40, 49, "root"), sector=4096)
    for sector in (0, 4096):
        found = partitions.table(reader(disk), sector)
        assert found is not None
        assert [(part.start, part.size) for part in found.partitions] == [(40 * 4096, 10 * 4096)]
    assert partitions.sector_size(reader(disk)) == 4096
    assert partitions.sector_size(reader(gpt((LINUX, 40, 49, "root")))) == 512
    assert partitions.sector_size(reader(mbr((0x83, 2048, 4096)))) == 512
    found = partitions.table(reader(mbr((0x83, 256, 512))), 4096)
    assert found is not None
    assert found.partitions == (Partition(1, 256 * 4096, 512 * 4096, "Linux"),)


def test_a_damaged_gpt_is_told() -> None:
    for at, flaw in ((SECTOR, "missing"), (SECTOR + 40, "header is damaged"), (2 * SECTOR + 60, "entries")):
        disk = bytearray(gpt((LINUX, 40, 49, "root")))
        disk[at] ^= 1
        found = partitions.table(reader(bytes(disk)))
        assert found is not None
        assert flaw in found.flaw


def test_what_is_no_table() -> None:
    fat = b"\xeb\x3c\x90mkfs.fat".ljust(446, b"\x31").ljust(510, b"\x31") + b"\x55\xaa"
    for data in (b"", bytes(SECTOR), mbr(), fat):
        assert partitions.table(reader(data)) is None


CHANGES = st.lists(st.tuples(st.integers(0, 1600), st.binary(min_size=1, max_size=8)), max_size=6)


@given(st.sampled_from([mbr((5, 2, 9), (0x83, 1, 1)), gpt((LINUX, 40, 49, "root"))]), CHANGES, st.booleans())
def test_any_bytes_have_an_answer(disk: bytes, changes: list[tuple[int, bytes]], sum_up: bool) -> None:
    data = bytearray(disk.ljust(40 * SECTOR, b"\0"))
    for offset, new in changes:
        data[offset : offset + len(new)] = new
    if sum_up:  # so that damage gets behind the checksum
        header = data[SECTOR : SECTOR + 92]
        header[16:20] = bytes(4)
        data[SECTOR + 16 : SECTOR + 20] = zlib.crc32(header).to_bytes(4, "little")
    found = partitions.table(reader(bytes(data)))
    assert found is None or len(found.partitions) <= 200
