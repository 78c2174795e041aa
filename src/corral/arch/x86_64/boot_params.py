"""The zero page: struct boot_params of the Linux boot protocol.

Source: the kernel's Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header") and zero-page.rst. The
setup header has the same offsets in the first sectors of a bzImage as in the zero page, so one class serves
both.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64.records import Record, u8, u16, u32, u64

BOOT_FLAG = 0xAA55
HEADER_MAGIC = 0x53726448  # "HdrS"
LOADER_UNDEFINED = 0xFF

# loadflags
LOADED_HIGH = 1 << 0
CAN_USE_HEAP = 1 << 7
# xloadflags, protocol 2.12 and later
XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1

# Versions of the protocol that brought what is read here.
VERSION_HEAP = 0x201
VERSION_CMDLINE_POINTER = 0x202
VERSION_INITRD_ADDR_MAX = 0x203
VERSION_CMDLINE_SIZE = 0x206
VERSION_PAYLOAD = 0x208
VERSION_INIT_SIZE = 0x20A
VERSION_XLOADFLAGS = 0x20C
VERSION_NEWEST = 0x20F

_HEADER_START = 0x1F1
_HEADER_LIMIT = 0x290  # edd_mbr_sig_buffer follows in the zero page
_E820_TABLE = 0x2D0
_E820_ENTRY = struct.Struct("<QQI")
_E820_MAX = 128


class SetupHeader(Record):
    """The setup header, at its offsets from the start of the bzImage (and of the zero page)."""

    SIZE = _HEADER_LIMIT
    __slots__ = ()

    setup_sects = u8(0x1F1)
    boot_flag = u16(0x1FE)
    jump_distance = u8(0x201)  # of the short jump over the header: where the header ends
    header = u32(0x202)
    version = u16(0x206)
    kernel_version = u16(0x20E)  # of a string, counted from 0x200; 0: none
    type_of_loader = u8(0x210)
    loadflags = u8(0x211)
    code32_start = u32(0x214)  # where Linux is entered by the 32-bit protocol
    ramdisk_image = u32(0x218)
    ramdisk_size = u32(0x21C)
    heap_end_ptr = u16(0x224)  # counted from the setup code, less 0x200
    cmd_line_ptr = u32(0x228)
    initrd_addr_max = u32(0x22C)  # the highest byte that an initrd may occupy
    kernel_alignment = u32(0x230)
    relocatable_kernel = u8(0x234)
    xloadflags = u16(0x236)
    cmdline_size = u32(0x238)  # without the terminating zero
    payload_offset = u32(0x248)  # from the start of the protected-mode code
    payload_length = u32(0x24C)
    pref_address = u64(0x258)
    init_size = u32(0x260)

    @property
    def end(self) -> int:
        """Offset of the first byte behind the header (boot.rst: 0x202 plus the byte at 0x201)."""
        return min(0x202 + self.jump_distance, _HEADER_LIMIT)


class BootParams(SetupHeader):
    """The zero page: 4096 bytes, all zero but for what a boot loader fills in."""

    SIZE = 4096
    __slots__ = ()

    acpi_rsdp_addr = u64(0x070)
    ext_ramdisk_image = u32(0x0C0)  # upper halves of the fields without ext_
    ext_ramdisk_size = u32(0x0C4)
    ext_cmd_line_ptr = u32(0x0C8)
    e820_entries = u8(0x1E8)

    def take_header(self, header: SetupHeader) -> None:
        """Copy the setup header of an image, and nothing beside it (boot.rst, "64-bit Boot Protocol")."""
        self.data[_HEADER_START : header.end] = header.data[_HEADER_START : header.end]

    def set_initrd(self, address: int, size: int) -> None:
        self.ramdisk_image, self.ext_ramdisk_image = address & 0xFFFFFFFF, address >> 32
        self.ramdisk_size, self.ext_ramdisk_size = size & 0xFFFFFFFF, size >> 32

    def set_command_line(self, address: int) -> None:
        self.cmd_line_ptr, self.ext_cmd_line_ptr = address & 0xFFFFFFFF, address >> 32

    def add_e820(self, start: int, length: int, kind: int) -> None:
        """Append one range to the memory map; ValueError when the table is full (128 entries)."""
        count = self.e820_entries
        if count == _E820_MAX:
            raise ValueError("the zero page holds at most 128 memory ranges")
        _E820_ENTRY.pack_into(self.data, _E820_TABLE + count * _E820_ENTRY.size, start, length, kind)
        self.e820_entries = count + 1

    def e820(self) -> list[tuple[int, int, int]]:
        """The memory map: (start, length, kind) in the order of the table."""
        size = _E820_ENTRY.size
        table = self.data[_E820_TABLE : _E820_TABLE + self.e820_entries * size]
        return [(start, length, kind) for start, length, kind in _E820_ENTRY.iter_unpack(table)]
