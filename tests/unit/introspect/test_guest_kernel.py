"""A kernel in a guest's memory: where it is, its messages, and what a hostile one is told to be."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from corral.introspect import core_file, messages, vmcoreinfo
from corral.introspect.kernel import DamagedKernel, NotLinux
from corral.introspect.subject import NAMES
from corral.memory import GuestMemory, GuestMemoryError
from tests.unit.introspect import guest

RING, INFOS, DESCRIPTORS, TEXTS = 0x200000, 0x210000, 0x220000, 0x230000
BITS, TEXT_BITS = 3, 10


@pytest.fixture
def ram() -> Iterator[GuestMemory]:
    memory = guest.memory()
    yield memory
    memory.close()


def test_memory_without_linux_is_told(ram: GuestMemory) -> None:
    ram.write(guest.BASE + guest.SYMBOLS["linux_banner"], bytes(16))
    with pytest.raises(NotLinux, match="no Linux with these symbols"):
        guest.kernel(ram)


def test_a_kernel_that_kaslr_moved_is_found_by_its_vmcoreinfo() -> None:
    ram = GuestMemory(4 << 20)
    moved = guest.BASE + 0x40000
    ram.write(moved + guest.SYMBOLS["linux_banner"], b"Linux version 6.1.0-moved x\0")
    note = b"OSRELEASE=6.1.0-moved\nPAGESIZE=4096\nNUMBER(phys_base)=-2097152\nKERNELOFFSET=240000\n"
    ram.write(0x300000, note + b"\0")
    kernel = guest.kernel(ram)
    assert (kernel.offset, kernel.phys_base) == (0x240000, -0x200000)
    assert vmcoreinfo.release(kernel) == "6.1.0-moved"
    assert vmcoreinfo.text(kernel) == note
    ram.close()


def test_a_kernel_without_crash_dumps_has_a_note_made_of_its_symbols(ram: GuestMemory) -> None:
    identity = bytes(range(20))
    ram.write(guest.BASE + guest.SYMBOLS["__start_notes"], struct.pack("<III4s", 4, 20, 3, b"GNU\0") + identity)
    lines = vmcoreinfo.text(guest.kernel(ram)).decode().splitlines()
    assert lines[:3] == ["OSRELEASE=6.1.0-made", f"BUILD-ID={identity.hex()}", "PAGESIZE=4096"]
    assert f"SYMBOL(swapper_pg_dir)={guest.address('init_top_pgt'):x}" in lines


def test_addresses_are_those_of_the_direct_map_and_of_the_kernel(ram: GuestMemory) -> None:
    kernel = guest.kernel(ram)
    ram.write(0x345678, b"here")
    assert kernel.read(guest.direct(0x345678), 4) == b"here"
    assert kernel.read(guest.address("linux_banner"), 5) == b"Linux"
    with pytest.raises(GuestMemoryError, match="not mapped"):
        kernel.read(0xFFFFC90000000000, 8)


def test_a_list_that_never_ends_is_told(ram: GuestMemory) -> None:
    kernel = guest.kernel(ram)
    ram.write(0x300000, struct.pack("<Q", guest.direct(0x300008)))
    ram.write(0x300008, struct.pack("<Q", guest.direct(0x300008)))
    with pytest.raises(DamagedKernel, match="65536 entries"):
        list(kernel.listed(guest.direct(0x300000), 0))


def ring(ram: GuestMemory, texts_at: int, records: list[tuple[int, int, int, int, int]]) -> None:
    """Records: number, state, begin, end, length of the text."""
    ram.write(guest.BASE + guest.SYMBOLS["prb"], struct.pack("<Q", guest.direct(RING)))
    numbers = [one[0] for one in records]
    ram.write(
        RING, struct.pack("<I4xQQQQ", BITS, guest.direct(DESCRIPTORS), guest.direct(INFOS), numbers[-1], numbers[0])
    )
    ram.write(RING + texts_at, struct.pack("<I4xQQQ", TEXT_BITS, guest.direct(TEXTS), 0, 0))
    for number, state, begin, end, length in records:
        at = number % (1 << BITS)
        ram.write(DESCRIPTORS + 24 * at, struct.pack("<QQQ", state << 62 | number, begin, end))
        ram.write(INFOS + 88 * at, struct.pack("<QQHBBI", number, number * 1_500_000_000, length, 0, 6 << 5, 0))


@pytest.mark.parametrize("texts_at", [40, 48])  # before and since Linux 6.5
def test_messages_are_those_that_are_whole(ram: GuestMemory, texts_at: int) -> None:
    ram.write(TEXTS + 8, b"first")
    ram.write(TEXTS + 24 + 8, b"second")
    finalized, reserved, committed = 2, 0, 1
    ring(ram, texts_at, [(1, finalized, 0, 24, 5), (2, reserved, 0, 0, 0), (3, committed, 24, 48, 6)])
    told = messages.read(guest.kernel(ram))
    assert [(one.sequence, one.time, one.level, one.text) for one in told] == [
        (1, 1.5, 6, "first"),
        (3, 4.5, 6, "second"),
    ]
    assert str(told[0]) == "[    1.500000] first"


def test_a_message_that_did_not_fit_behind_is_at_the_front(ram: GuestMemory) -> None:
    ram.write(TEXTS + 8, b"wrapped")
    ring(ram, 40, [(1, 2, 1008, 1024 + 16, 7)])
    assert [one.text for one in messages.read(guest.kernel(ram))] == ["wrapped"]


def test_a_message_is_not_longer_than_its_block(ram: GuestMemory) -> None:
    ram.write(TEXTS + 8, b"block" + b"!" * 100)
    ring(ram, 40, [(1, 2, 0, 13, 60000), (2, 2, 0, 14, 60000)])
    assert [one.text for one in messages.read(guest.kernel(ram))] == ["", "block!"]


def test_a_ring_that_makes_no_sense_is_told(ram: GuestMemory) -> None:
    ring(ram, 40, [(1, 2, 0, 16, 5)])
    ram.write(RING, struct.pack("<I", 31))
    with pytest.raises(DamagedKernel, match="does not know, or is damaged"):
        messages.read(guest.kernel(ram))
    ram.write(guest.BASE + guest.SYMBOLS["prb"], struct.pack("<Q", 0x1234))
    with pytest.raises(DamagedKernel, match="cannot be read"):
        messages.read(guest.kernel(ram))


# Core files.


def test_a_core_file_has_each_vcpus_registers_where_gdb_looks_for_them(ram: GuestMemory) -> None:
    vcpus = [dict.fromkeys(NAMES, 0) | {"rip": 0x1000 + number, "rsp": 0x7000} for number in range(2)]
    head = core_file.head(vcpus, ram.regions, None)
    assert len(head) % 4096 == 0
    assert core_file.is_one(head)
    kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", head, 64)
    assert kind == 4
    for number in range(2):
        at = offset + number * (size // 2)
        assert struct.unpack_from("<III", head, at) == (5, 336, 1)
        status = head[at + 20 : at + 20 + 336]
        assert struct.unpack_from("<I", status, 32)[0] == number + 1
        assert struct.unpack_from("<Q", status, 112 + 16 * 8)[0] == 0x1000 + number
        assert struct.unpack_from("<Q", status, 112 + 19 * 8)[0] == 0x7000


def test_a_core_file_of_linux_has_the_direct_map_the_kernel_and_the_note(ram: GuestMemory) -> None:
    head = core_file.head([], ram.regions, guest.kernel(ram))
    count = struct.unpack_from("<H", head, 56)[0]
    loads = [struct.unpack_from("<IIQQQQQQ", head, 64 + 56 * index) for index in range(1, count)]
    assert [(address, gpa, size) for _, _, _, address, gpa, size, _, _ in loads] == [
        (guest.address("_text"), guest.BASE, guest.SYMBOLS["_end"]),
        (guest.direct(0), 0, 4 << 20),
    ]
    assert [one[2] - len(head) for one in loads] == [guest.BASE, 0]
    assert b"VMCOREINFO\0" in head
    assert b"OSRELEASE=6.1.0-made\n" in head
