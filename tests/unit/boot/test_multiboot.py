"""Multiboot headers, good and bad, and what a kernel finds in memory; the running kernels are tests/kvm's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import boot
from corral.arch.x86_64 import layout
from corral.boot import Entry, Mode
from corral.boot.kernel import Module
from corral.errors import BootError
from corral.memory import GuestMemory
from tests.support import kernels
from tests.support.kernels import multiboot, multiboot2, multiboot2_tag, multiboot_elf

Save = Callable[[bytes], Path]
MIB = 1 << 20
ADDRESSES = (MIB, MIB, 0, 0, MIB + 32)


def load(path: Path, memory: GuestMemory, *modules: Module, rsdp: int = 0, protocol: str | None = None) -> Entry:
    with boot.open_kernel(path, protocol) as kernel:
        kernel.modules = modules
        return kernel.load(memory, b"words", rsdp=rsdp)


def word(memory: GuestMemory, address: int) -> int:
    return int.from_bytes(memory.read(address, 4), "little")


def test_an_elf_kernel(save: Save, memory: GuestMemory) -> None:
    entry = load(save(multiboot_elf(multiboot(), entry=MIB + 12)), memory)
    assert entry == Entry(Mode.PROTECTED, MIB + 12, layout.MULTIBOOT_INFO, 0x2BADB002)
    assert memory.read(MIB, 13) == multiboot()
    info = entry.boot_info
    assert word(memory, info) == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    assert (word(memory, info + 4), word(memory, info + 8)) == (639, 63 << 10)
    assert memory.read(word(memory, info + 16), 6) == b"words\0"
    assert memory.read(word(memory, info + 64), 7) == b"Corral\0"
    assert word(memory, info + 20) == 0
    size, start, length, kind = struct.unpack("<IQQI", memory.read(word(memory, info + 48), 24))
    assert (size, start, length, kind) == (20, 0, layout.EBDA, 1)
    assert word(memory, info + 44) == 3 * 24
    assert memory.read(0x413, 2) == (639).to_bytes(2, "little"), "what a BIOS would say"


@pytest.mark.parametrize("before", [0, 4, 8192 - 40])
def test_a_header_with_addresses(save: Save, memory: GuestMemory, before: int) -> None:
    """Of a file in no format, the first of which the load address leaves out."""
    data = multiboot((2 * MIB, 2 * MIB, 0, 2 * MIB + 4096, 2 * MIB + 32), code=b"code", before=before)
    entry = load(save(data), memory)
    assert entry.rip == 2 * MIB + 32
    assert memory.read(2 * MIB, len(data) - before) == data[before:]


def test_addresses_go_before_the_elf_header(save: Save, memory: GuestMemory) -> None:
    inside = multiboot((3 * MIB, 3 * MIB, 0, 0, 3 * MIB + 32), code=b"code")
    for data in (multiboot_elf(inside), multiboot_elf(inside, type=1)):  # an executable, and an object file
        assert load(save(data), memory).rip == 3 * MIB + 32
        assert memory.read(3 * MIB, len(inside)) == inside


def test_modules_are_the_lowest_pages_behind_the_kernel(save: Save, memory: GuestMemory) -> None:
    modules = [Module(str(save(b"a" * 5000)), "first words"), Module(str(save(b"b")))]
    entry = load(save(multiboot_elf(multiboot())), memory, *modules)
    assert word(memory, entry.boot_info + 20) == 2
    table = memory.read(word(memory, entry.boot_info + 24), 32)
    first, second = struct.iter_unpack("<IIII", table)
    assert first[:2] == (MIB + 4096, MIB + 4096 + 5000)
    assert second[:2] == (MIB + 3 * 4096, MIB + 3 * 4096 + 1)
    assert memory.read(first[2], 12) == b"first words\0"
    assert memory.read(second[2], 1) == b"\0"
    assert memory.read(*first[:1], 5000) == b"a" * 5000


def test_version_2(save: Save, memory: GuestMemory) -> None:
    memory.write(layout.ACPI_TABLES, b"RSD PTR " + bytes(28))
    tags = [multiboot2_tag(1, 1, 3, 6, 14), multiboot2_tag(5, 0, 0, 32, flags=1), multiboot2_tag(3, MIB + 4)]
    kernel, module = save(multiboot_elf(multiboot2(tags))), Module(str(save(b"module")), "its words")
    entry = load(kernel, memory, module, rsdp=layout.ACPI_TABLES)
    assert entry == Entry(Mode.PROTECTED, MIB + 4, layout.COMMAND_LINE, 0x36D76289)
    found = dict(tags_of(memory, entry.boot_info))
    assert found[1] == b"words\0"
    assert struct.unpack("<II", found[3][:8]) == (MIB + 4096, MIB + 4096 + 6)
    assert found[3][8:] == b"its words\0"
    assert found[4] == struct.pack("<II", 639, 63 << 10)
    assert found[6][:8] == struct.pack("<II", 24, 0)
    assert found[14] == b"RSD PTR " + bytes(12)
    assert len(found[15]) == 36
    assert list(found)[-1] == 0
    with pytest.raises(BootError, match="requires ACPI; give it that: --acpi on"):
        load(kernel, memory)


def tags_of(memory: GuestMemory, info: int) -> list[tuple[int, bytes]]:
    data, at, found = memory.read(info, word(memory, info)), 8, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        found.append((kind, data[at + 8 : at + size]))
        at += -(-size // 8) * 8
    return found


def test_which_protocol(save: Save, memory: GuestMemory) -> None:
    both = multiboot_elf(multiboot() + bytes(7) + multiboot2())
    path = save(both)
    for protocol, kind in ((None, "multiboot"), ("multiboot", "multiboot"), ("multiboot2", "multiboot2")):
        with boot.open_kernel(path, protocol) as kernel:
            assert kernel.kind == kind
    for data, protocol in ((multiboot_elf(multiboot()), "multiboot2"), (kernels.vmlinux(), "multiboot")):
        with pytest.raises(BootError, match=f"has no {protocol.capitalize()} header"):
            boot.open_kernel(save(data), protocol)


def test_linux_and_pvh_come_first(save: Save) -> None:
    text = kernels.text_segment(kernels.LONG_MODE_CODE + bytes(4) + multiboot())
    with boot.open_kernel(save(kernels.vmlinux(segments=(text,)))) as kernel:
        assert kernel.kind == "vmlinux"
    pvh = kernels.Segment(data=multiboot(), physical=MIB, virtual=MIB)
    data = kernels.Elf((pvh, kernels.pvh_note(MIB)), MIB, 32, kernels.EM_386).build()
    with boot.open_kernel(save(data)) as kernel:
        assert kernel.kind == "pvh"
    with boot.open_kernel(save(data), "multiboot") as kernel:
        assert kernel.kind == "multiboot"


REFUSED = {
    "unknown requirement": (multiboot_elf(multiboot(flags=1 << 5)), "flags 0x20"),
    "cut off": (multiboot(ADDRESSES)[:20], "cut off within its Multiboot header"),
    "load above header": (multiboot((MIB, 2 * MIB, 0, 0, MIB)), "not within what is loaded"),
    "starts before the file": (multiboot((2 * MIB, MIB, 0, 0, MIB)), "not within what is loaded"),
    "ends before it starts": (multiboot((MIB, MIB, MIB - 1, 0, MIB)), "not in order"),
    ".bss ends in it": (multiboot((MIB, MIB, 0, MIB + 1, MIB)), "not in order"),
    "longer than the file": (multiboot((MIB, MIB, 64 * MIB, 0, MIB)), "ends behind the end of the file"),
    "low": (multiboot((0x7C00, 0x7C00, 0, 0, 0x7C00)), "below 1 MiB"),
    "entry outside": (multiboot((MIB, MIB, 0, 0, MIB - 1)), "outside of what is loaded"),
    "entry behind": (multiboot((MIB, MIB, 0, 0, 1 << 31)), "outside of what is loaded"),
    "not enough RAM": (multiboot((MIB, MIB, 0, 512 * MIB, MIB)), "give it 512M with --memory"),
    "frame buffer": (multiboot_elf(multiboot2([multiboot2_tag(5, 0, 0, 0)])), "a frame buffer, and there is no screen"),
    "unknown tag": (multiboot_elf(multiboot2([multiboot2_tag(77)])), "requires Multiboot2's tag 77"),
    "unknown information": (multiboot_elf(multiboot2([multiboot2_tag(1, 1, 12, 8)])), r"tags 8, 12"),
    "a tag too long": (multiboot_elf(multiboot2([multiboot2_tag(4, size=4096)])), "a tag of 4096 bytes"),
    "a tag too short": (multiboot_elf(multiboot2([multiboot2_tag(4, size=0)])), "a tag of 0 bytes"),
    "a header without end": (multiboot_elf(multiboot2(length=0x7FFFFFF8)), "ends behind its first 32 KiB"),
    "no entry": (multiboot2([multiboot2_tag(2, MIB, MIB, 0, 0)]), "no entry address"),
    "version 2's entry outside": (multiboot_elf(multiboot2([multiboot2_tag(3, 7)])), "entry 0x7 in no segment"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(save: Save, memory: GuestMemory, case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(BootError, match=message) as caught:
        load(save(data), memory)
    assert str(caught.value).isprintable()
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        multiboot_elf(multiboot()[:8] + b"\1\1\1\1"),  # a wrong checksum
        multiboot_elf(b"\x90" + multiboot()),  # not at a multiple of four
        multiboot_elf(b"\x90" * 8192 + multiboot()),  # too far in
    ],
)
def test_what_is_no_header(save: Save, data: bytes) -> None:
    with pytest.raises(BootError, match="without a PVH entry or a Multiboot header"):
        boot.open_kernel(save(data))


def test_words_that_are_too_long(save: Save, memory: GuestMemory) -> None:
    for data in (multiboot_elf(multiboot()), multiboot_elf(multiboot2()), kernels.pvh_guest()):
        with pytest.raises(BootError, match="longer than 64 KiB; shorten them"):
            load(save(data), memory, Module(str(save(b"x")), "w" * 70_000))


def test_more_modules_than_there_is_room_for(save: Save, memory: GuestMemory) -> None:
    module = Module(str(save(b"x")))
    for data in (multiboot_elf(multiboot()), kernels.pvh_guest()):
        with pytest.raises(BootError, match="would get 300 modules"):
            load(save(data), memory, *[module] * 300)
    with pytest.raises(BootError, match="the guest has room for 62M"):
        load(save(multiboot_elf(multiboot())), memory, Module(str(save(bytes(65 * MIB)))))


def test_a_program_without_a_payload(save: Save, memory: GuestMemory) -> None:
    """As memtest86+ is: loaded where it wants to be, and entered 512 bytes in."""
    with boot.open_kernel(save(kernels.unpacked_program(b"\x90" * 4096))) as kernel:
        entry = kernel.load(memory, b"words")
    assert entry == Entry(Mode.LONG, MIB + 0x200, layout.ZERO_PAGE)
    assert memory.read(MIB + 64, 4096) == b"\x90" * 4096


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xloadflags": 4}, "a 32-bit program"),
        ({"version": 0x20A}, "calls a PC's BIOS"),
        ({"init_size": 100}, "nor the size that it claims"),
        ({"init_size": 0xFFFFFFFF}, "needs RAM"),
        ({"pref_address": 0x10000}, "where the boot structures are"),
        ({"pref_address": (1 << 64) - 1}, "more than any guest has"),
        ({"cmdline_size": 3}, "takes a command line of 3 bytes"),
    ],
)
def test_bad_programs(save: Save, memory: GuestMemory, changes: dict[str, int], message: str) -> None:
    with pytest.raises(BootError, match=message):
        load(save(kernels.unpacked_program(**changes)), memory)
