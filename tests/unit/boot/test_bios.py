"""A PC's BIOS and the programs that it hands over to, without running them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral import boot
from corral.arch.x86_64 import acpi, layout
from corral.arch.x86_64.boot_params import SetupHeader
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot.bios import Bios, open_bios
from corral.config import Firmware
from corral.errors import BootError
from corral.guests import bios
from corral.memory import GuestMemory
from tests.support import kernels

Save = Callable[[bytes], Path]
KIB, MIB = 1 << 10, 1 << 20
JUMP = b"\xea"


def image(size: int = 128 * KIB, first: bytes = JUMP) -> bytes:
    return bytes(size - 16) + first + bytes(15)


@pytest.fixture
def firmware(save: Save) -> Firmware:
    return Firmware(str(save(image())), str(save(b"rom")))


@pytest.fixture
def load(firmware: Firmware, save: Save, memory: GuestMemory) -> Iterator[Callable[..., Bios]]:
    """Opens a BIOS with a program (bytes; b"": none), and loads it."""
    opened = []

    def load(program: bytes = b"", initrd: bytes | None = None, cmdline: bytes = b"", rsdp: int = 0) -> Bios:
        kernel = open_bios(firmware, str(save(program)) if program else "", 2)
        opened.append(kernel)
        assert kernel.load(memory, cmdline, save(initrd) if initrd else None, rsdp) == Entry(Mode.REAL, 0xFFFF0)
        return kernel

    yield load
    for kernel in opened:
        kernel.close()


def test_it_ends_where_a_cpu_begins(load: Callable[..., Bios], memory: GuestMemory) -> None:
    load()
    assert memory.read(layout.BIOS, 128 * KIB) == image()


def test_what_it_is_told(load: Callable[..., Bios]) -> None:
    kernel = load()
    assert kernel.files["etc/sercon-port"] == b"\xf8\x03"
    assert kernel.cpus == 2
    ranges = list(struct.iter_unpack("<QQI", kernel.files["etc/e820"]))
    assert ranges == [(0, 64 * MIB - 64 * KIB, 1), (64 * MIB - 64 * KIB, 64 * KIB, 2)]
    assert set(kernel.files) == {"etc/sercon-port", "etc/e820"}


def test_memory_above_4_gib(firmware: Firmware) -> None:
    memory = GuestMemory(5 << 30)
    with open_bios(firmware, "", 1) as kernel:
        kernel.load(memory)
    ranges = list(struct.iter_unpack("<QQI", kernel.files["etc/e820"]))
    memory.close()
    assert ranges[0][1] + ranges[1][1] == 3 << 30
    assert ranges[2] == (4 << 30, 2 << 30, 1)


def test_acpi_is_found_by_its_root(load: Callable[..., Bios], memory: GuestMemory) -> None:
    rsdp = acpi.write(memory, range(2), 1, at=layout.above_bios(memory.low_end))
    kernel = load(rsdp=rsdp)
    pointer = kernel.files["etc/acpi/rsdp"]
    assert pointer[:8] == b"RSD PTR "
    assert sum(pointer) % 256 == 0
    (xsdt,) = struct.unpack_from("<Q", pointer, 24)
    assert memory.read(xsdt, 4) == b"XSDT"
    assert xsdt > layout.above_bios(memory.low_end)
    command, name, alignment, zone = struct.unpack("<I56sIB63x", kernel.files["etc/table-loader"])
    assert (command, name.rstrip(b"\0"), alignment, zone) == (1, b"etc/acpi/rsdp", 16, 2)


def test_a_program_comes_when_it_is_asked_for(load: Callable[..., Bios], memory: GuestMemory) -> None:
    program = kernels.bzimage(b"the rest", version=0x206, heap_end_ptr=0)
    kernel = load(program, initrd=b"files", cmdline=b"one two")
    assert kernel.files["genroms/corral.rom"] == b"rom"
    assert kernel.files["bootorder"] == b"/rom@genroms/corral.rom\n\0"
    assert not any(memory.read(layout.HIGH_MEMORY, 4096))
    for _ in range(2):  # whatever a guest does
        kernel.hand_over()
        header = SetupHeader(memory.read(layout.REAL_MODE_SETUP, 512 * 5))
        assert memory.read(layout.HIGH_MEMORY + 0x40, 8) == b"the rest"
        assert memory.read(header.cmd_line_ptr, 8) == b"one two\0"
        assert memory.read(header.ramdisk_image, header.ramdisk_size) == b"files"
        assert header.ramdisk_image < layout.above_bios(memory.low_end) - MIB
        assert (header.type_of_loader, header.loadflags) == (0xFF, 0x81)
        assert header.heap_end_ptr == layout.REAL_MODE_STACK - layout.REAL_MODE_SETUP - 0x200
        memory.write(layout.REAL_MODE_SETUP, bytes(512 * 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 4096, "no header of Linux's.*--disk"),
        (kernels.bzimage(b"", loadflags=0), "since 1998"),
        (kernels.bzimage(b"", version=0x201), "since 1998"),
        (kernels.bzimage(b"")[:2000], "ends within its setup code"),
        (kernels.bzimage(b"", setup_sects=255), "no room for a stack"),
        (kernels.bzimage(bytes(64 * MIB)), "needs RAM"),
    ],
)
def test_bad_programs(load: Callable[..., Bios], content: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message):
        load(content)


@pytest.mark.parametrize("initrd", [bytes(62 * MIB), bytes(80 * MIB)])
def test_an_initrd_that_has_no_room(load: Callable[..., Bios], initrd: bytes) -> None:
    with pytest.raises(BootError, match="the guest has room for"):
        load(kernels.bzimage(b"rest"), initrd=initrd)


def test_too_long_a_command_line(load: Callable[..., Bios]) -> None:
    with pytest.raises(BootError, match="takes a command line of 255 bytes"):
        load(kernels.bzimage(b"rest", version=0x203), cmdline=b"x" * 256)


def test_a_disks_boot_takes_no_words(load: Callable[..., Bios]) -> None:
    with pytest.raises(BootError, match="boots from a disk"):
        load(cmdline=b"words")


def test_too_little_memory(firmware: Firmware) -> None:
    memory = GuestMemory(16 * MIB)
    with open_bios(firmware, "", 1) as kernel, pytest.raises(BootError, match="needs a guest with 32M"):
        kernel.load(memory)
    memory.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (image(256 * KIB), "64 to 128 KiB"),
        (b"short", "64 to 128 KiB"),
        (image(first=b"\0"), "no jump where a CPU begins"),
    ],
)
def test_what_is_no_bios(save: Save, content: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message):
        open_bios(Firmware(str(save(content)), str(save(b"rom"))), "", 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_header(firmware: Firmware, save: Save, memory: GuestMemory, data: st.DataObject) -> None:
    """Whatever is in it, the program is refused in words or lies where it may."""
    fields = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "setup_sects": st.integers(0, 255),
                "jump_distance": st.integers(0, 255),
                "version": st.integers(0, 0xFFFF),
                "loadflags": st.integers(0, 255),
                "initrd_addr_max": st.integers(0, 2**32 - 1),
                "cmdline_size": st.integers(0, 2**32 - 1),
            },
        )
    )
    path = save(kernels.bzimage(b"rest", **fields)[: data.draw(st.integers(1, 4096))])
    with contextlib.suppress(BootError), open_bios(firmware, str(path), 1) as kernel:
        kernel.load(memory, b"words", save(b"files"))
        assert isinstance(kernel, Bios)
        kernel.hand_over()


@pytest.mark.parametrize(
    ("content", "needs"),
    [
        (kernels.unpacked_program(), False),
        (kernels.unpacked_program(version=0x20A), True),
        (kernels.bzimage(b"rest"), False),
        (kernels.vmlinux(), False),
        (b"x" * 600, False),
    ],
)
def test_who_needs_one(save: Save, content: bytes, needs: bool) -> None:
    assert boot.needs_bios(save(content)) == needs


def test_the_rom_is_one() -> None:
    for length in (1, 510, 511, 512, 1000):
        rom = bios.finished(b"\x55\xaa\0" + b"\x90" * length)
        assert len(rom) == rom[2] * 512 > length
        assert sum(rom) % 256 == 0
