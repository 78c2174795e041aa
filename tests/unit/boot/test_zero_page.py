"""Binary structures and the memory map."""

from __future__ import annotations

import struct

import pytest

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.boot_params import BootParams, SetupHeader

GIB = 1 << 30
MIB = 1 << 20

# (field, offset, width) as zero-page.rst and boot.rst have them.
FIELDS = [
    ("acpi_rsdp_addr", 0x070, 8),
    ("ext_ramdisk_image", 0x0C0, 4),
    ("ext_ramdisk_size", 0x0C4, 4),
    ("ext_cmd_line_ptr", 0x0C8, 4),
    ("e820_entries", 0x1E8, 1),
    ("setup_sects", 0x1F1, 1),
    ("boot_flag", 0x1FE, 2),
    ("header", 0x202, 4),
    ("version", 0x206, 2),
    ("type_of_loader", 0x210, 1),
    ("loadflags", 0x211, 1),
    ("ramdisk_image", 0x218, 4),
    ("ramdisk_size", 0x21C, 4),
    ("cmd_line_ptr", 0x228, 4),
    ("initrd_addr_max", 0x22C, 4),
    ("xloadflags", 0x236, 2),
    ("cmdline_size", 0x238, 4),
    ("payload_offset", 0x248, 4),
    ("payload_length", 0x24C, 4),
    ("pref_address", 0x258, 8),
    ("init_size", 0x260, 4),
]


@pytest.mark.parametrize(("name", "offset", "width"), FIELDS)
def test_fields_are_where_the_protocol_has_them(name: str, offset: int, width: int) -> None:
    params = BootParams()
    value = (1 << 8 * width) - 2
    setattr(params, name, value)
    assert getattr(params, name) == value
    assert int.from_bytes(params.data[offset : offset + width], "little") == value
    assert sum(params.data) == sum(value.to_bytes(width, "little")), "nothing else was written"
    with pytest.raises(struct.error):
        setattr(params, name, 1 << 8 * width)


def test_initrd_and_command_line_above_4_gib() -> None:
    params = BootParams()
    params.set_initrd(5 * GIB + 0x1000, 6 * GIB + 1)
    params.set_command_line(7 * GIB + 2)
    assert (params.ext_ramdisk_image << 32) + params.ramdisk_image == 5 * GIB + 0x1000
    assert (params.ext_ramdisk_size << 32) + params.ramdisk_size == 6 * GIB + 1
    assert (params.ext_cmd_line_ptr << 32) + params.cmd_line_ptr == 7 * GIB + 2


def test_only_the_header_is_taken_from_an_image() -> None:
    header = SetupHeader(b"\xaa" * SetupHeader.SIZE)
    header.jump_distance = 0x6A
    params = BootParams()
    params.take_header(header)
    assert params.data[:0x1F1] == bytes(0x1F1)
    assert params.data[0x26C:] == bytes(4096 - 0x26C)
    assert params.setup_sects == 0xAA


def test_the_memory_map_is_full_at_128_ranges() -> None:
    params = BootParams()
    for index in range(128):
        params.add_e820(index << 12, 1 << 12, e820.RAM)
    assert len(params.e820()) == 128
    assert params.data[0xCD0:] == bytes(4096 - 0xCD0), "the table ends where zero-page.rst ends it"
    with pytest.raises(ValueError, match="128"):
        params.add_e820(0, 1, e820.RAM)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([(0, 0x80000)], [(0, 0x80000, 1)]),
        ([(0, MIB)], [(0, layout.EBDA, 1), (layout.EBDA, 1 << 10, 2), (0xE0000, 0x20000, 2)]),
        (
            [(0, 3 * GIB), (4 * GIB, GIB)],
            [
                (0, layout.EBDA, 1),
                (layout.EBDA, 1 << 10, 2),
                (0xE0000, 0x20000, 2),
                (MIB, 3 * GIB - MIB, 1),
                (4 * GIB, GIB, 1),
            ],
        ),
    ],
)
def test_memory_maps(regions: list[tuple[int, int]], expected: list[tuple[int, int, int]]) -> None:
    assert e820.memory_map(regions) == expected
