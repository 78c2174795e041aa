"""Multiboot headers, good and bad, and what a kernel finds in memory; the running kernels are tests/kvm's."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral import boot
from corral.arch.x86_64 import layout
from corral.boot import Entry, Mode
from corral.config import Module
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
    assert word(memory, info + 44) == 4 * 24
    assert memory.read(0x413, 2) == (639).to_bytes(2, "little"), "what a BIOS would say"


@pytest.mark.parametrize("address", [0x1000, 0x7C00, 0x10000, 0x9F000, 0xFF000])
def test_a_kernel_below_1_mib_where_that_is_free(save: Save, memory: GuestMemory, address: int) -> None:
    """Linkers put an ELF file's headers before a kernel at 1 MiB: that is 0xff000."""
    addresses = load(save(multiboot((address, address, 0, 0, address + 32), code=b"code")), memory)
    assert addresses.rip == address + 32
    assert memory.read(address + 32, 4) == b"code"
    segment = kernels.Segment(data=multiboot(), physical=address, virtual=address)
    elf = load(save(multiboot_elf(multiboot(), entry=address + 12, segments=(segment,))), memory)
    assert elf.rip == address + 12


@pytest.mark.parametrize("sign", [kernels.PT_TLS, kernels.PT_INTERP])
@pytest.mark.parametrize("protocol", [None, "multiboot"])
def test_a_unikernel_that_looks_like_a_program(
    save: Save, memory: GuestMemory, sign: int, protocol: str | None
) -> None:
    """Unikraft has thread-local storage, Solo5 an interpreter that does not exist."""
    text = kernels.Segment(data=multiboot(), physical=MIB, virtual=MIB)
    data = multiboot_elf(multiboot(), segments=(text, kernels.Segment(type=sign, data=b"x")))
    assert load(save(data), memory, protocol=protocol).rip == MIB


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
    "over its own information": (multiboot((0x5FFC, 0x5FFC, 0, 0, 0x5FFC)), r"below 1 MiB, .*\(0x6000 to 0x7000\)"),
    "over the screen": (multiboot((0xB8000, 0xB8000, 0, 0, 0xB8000)), "below 1 MiB"),
    "from low to high": (multiboot((0x10000, 0x10000, 0, 2 * MIB, 0x10000)), r"\(0x20000 to 0x30000\)"),
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


@pytest.fixture(scope="module")
def with_symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both headers, and a symbol table, as compilers make them."""
    folder = tmp_path_factory.mktemp("symbols")
    header = ".long 0x1badb002, 3, -(0x1badb002 + 3); .align 8; .long 0xe85250d6, 0, 24, -(0xe85250d6 + 24), 0, 8"
    (folder / "kernel.S").write_text(f"{header}\n.globl _start, a_symbol\n_start: hlt\na_symbol: hlt\n")
    flags = ["-m32", "-nostdlib", "-static", "-Wl,-Ttext=0x100000,--build-id=none,-n"]
    subprocess.run(["gcc", *flags, "-o", str(folder / "kernel"), str(folder / "kernel.S")], check=True, timeout=30)
    return folder / "kernel"


@pytest.mark.parametrize("protocol", ["multiboot", "multiboot2"])
def test_a_kernel_finds_its_symbols(with_symbols: Path, save: Save, memory: GuestMemory, protocol: str) -> None:
    info = load(with_symbols, memory, Module(str(save(b"m" * 5000))), protocol=protocol).boot_info
    if protocol == "multiboot":
        assert word(memory, info) & 1 << 5
        count, size, address, names = struct.unpack("<IIII", memory.read(info + 28, 16))
        table = memory.read(address, count * size)
    else:
        tag = dict(tags_of(memory, info))[9]
        (count, size, names), table = struct.unpack("<III", tag[:12]), tag[12:]
    sections = list(struct.iter_unpack("<10I", table))
    assert (size, len(sections)) == (40, count)
    (symbols,) = (section for section in sections if section[1] == 2)
    strings = sections[symbols[6]]
    assert b"\0a_symbol\0" in memory.read(strings[3], strings[5])
    assert b"\0.symtab\0" in memory.read(sections[names][3], sections[names][5])
    values = [struct.unpack("<II", memory.read(symbols[3] + at, 8)) for at in range(0, symbols[5], 16)]
    start = next(value for name, value in values if memory.read(strings[3] + name, 9) == b"a_symbol\0")
    assert memory.read(start, 1) == b"\xf4"
    places = sorted((section[3], section[3] + section[5]) for section in sections if section[5] and section[3])
    assert all(low[1] <= high[0] for low, high in pairwise(places)), "nothing lies over anything"


@given(st.lists(st.tuples(st.integers(0, 2000), st.sampled_from([0, 1, 0x7F, 0xFF])), min_size=1, max_size=5))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bad_sections_are_not_told_of(with_symbols: Path, tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(with_symbols.read_bytes())
    start = int.from_bytes(data[32:36], "little")
    for at, value in changes:  # the table, or where the header says that it is
        data[(start + at) % len(data) if at % 3 else 32 + at % 20] = value
    (tmp_path / "kernel").write_bytes(data)
    memory, message = GuestMemory(8 * MIB), ""
    try:
        load(tmp_path / "kernel", memory)
    except BootError as error:
        message = str(error)
    finally:
        memory.close()
    assert message.isprintable()
