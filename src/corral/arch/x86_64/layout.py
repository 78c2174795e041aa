"""Every guest physical address and I/O port that Corral chooses, here only.

From bottom to top; what is not named is free for the guest. Everything below 1 MiB is written before the guest
starts and belongs to the guest afterwards, except what the memory map (e820.py) does not call RAM.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE_SIZE = 4 * KIB

# Below 1 MiB: what a guest needs at its entry.
BIOS_DATA = 0x400  # what a PC's BIOS leaves: kernels that know nothing else look there
BOOT_GDT = 0x500  # flat segments for the 32-bit and 64-bit entries
BOOT_GDT_END = 0x600
PVH_START_INFO = 0x6000  # struct hvm_start_info, its module list and its memory map: one page
MULTIBOOT_INFO = 0x6000  # likewise, for a kernel that is entered by Multiboot
MULTIBOOT_INFO_END = 0x7000
ZERO_PAGE = 0x7000  # struct boot_params of the Linux boot protocol: one page
PAGE_TABLES = 0x9000  # identity map for the 64-bit entry
PAGE_TABLES_END = 0x10000
REAL_MODE_SETUP = 0x10000  # the setup code of a program that a BIOS hands over to, and its stack
REAL_MODE_STACK = 0x1FE00
COMMAND_LINE = 0x20000
COMMAND_LINE_END = 0x30000

# The hole that a PC has between 640 KiB and 1 MiB. Its pages are RAM here, which the memory map does not say.
EBDA = 0x9FC00  # 639 KiB: where guests look for the MP floating pointer
SCREEN = 0xA0000  # a PC's screen, and behind it option ROMs
TEXT_SCREEN = 0xB8000  # where a PC shows text: 80 by 25 characters, each with a byte of colours
ACPI_TABLES = 0xE0000  # the BIOS area, where guests look for the RSDP
ACPI_TABLES_END = 0xF0000
MP_TABLE = 0xF0000  # the BIOS area too: room for the table of any number of processors
MP_TABLE_END = 0xF2000
HIGH_MEMORY = 0x100000  # kernels are loaded from here up
# A PC's BIOS, where a guest has one, is in the place of both: it ends at 1 MiB, and a CPU begins 16 bytes before.
BIOS = 0xE0000
BIOS_ENTRY = 0xFFFF0
BIOS_TABLES = 64 * KIB  # the end of RAM below 4 GiB, where ACPI's tables are then

# What is in use below 1 MiB when a kernel starts. Linux has none of its own there.
TAKEN_BY_LINUX = ((0, HIGH_MEMORY),)
TAKEN_BELOW_1_MIB = (
    (BIOS_DATA, BOOT_GDT_END),
    (MULTIBOOT_INFO, MULTIBOOT_INFO_END),
    (COMMAND_LINE, COMMAND_LINE_END),
    (EBDA, ACPI_TABLES_END),
    (MP_TABLE, MP_TABLE_END),
)

# Between RAM_HOLE and RAM_HOLE_END (corral.memory).
VIRTIO_MMIO = 0xD0000000  # a page for each virtio device
IOAPIC = 0xFEC00000
LOCAL_APIC = 0xFEE00000

# Pages that VMX needs for itself where no device is (api.rst, 4.32 and 4.41).
IDENTITY_MAP = 0xFFFBC000
TSS_AREA = 0xFFFBD000


def virtio_mmio(index: int) -> int:
    """Where the registers of virtio device `index` are."""
    return VIRTIO_MMIO + index * PAGE_SIZE


def above_bios(low_end: int) -> int:
    """Where the RAM ends that a BIOS may have; ACPI's tables are behind it. `low_end`: where RAM below 4 GiB ends."""
    return low_end - BIOS_TABLES


# I/O ports, first and last, and interrupt lines.
PIT_PORTS = ((0x40, 0x43), (0x61, 0x61))
I8042_PORTS = ((0x60, 0x60), (0x64, 0x64))
RTC_PORTS = (0x70, 0x71)
POST_PORTS = (0x80, 0x80)
COM1_PORTS = (0x3F8, 0x3FF)
COM1_GSI = 4
# Lines of virtio devices, one each: what the ISA devices of a PC leave free, then those past ISA.
VIRTIO_GSIS = (5, 6, 7, 9, 10, 11, 12, 14, 15, *range(16, 24))
# Of the power button: COM2's, which is not there.
POWER_BUTTON_GSI = 3
# Sleep control, sleep status and reset of a guest with ACPI (devices/acpi_power.py): their offsets, and what the
# tables tell a guest to write there: the sleep type of _S5, of three bits, and that of a reset.
ACPI_POWER_PORTS = (0x600, 0x602)
SLEEP_CONTROL, SLEEP_STATUS, RESET = 0, 1, 2
POWER_OFF, RESET_VALUE = 5, 1
# A guest's init writes the exit status of its command here, one byte, when the command line names the port.
STATUS_PORT = 0xCA1
# From the first one of QEMU's isa-debug-exit on, so that a write of 1, 2 or 4 bytes there is one access.
DEBUG_EXIT_PORTS = 4
# Of a guest with a BIOS: what that is told of its machine, its wish for the program to boot, and the way to a reset.
FW_CFG_PORTS = (0x510, 0x511)
HANDOVER_PORT = 0xCA2
RESET_CONTROL = 0xCF9
PCI_ADDRESS_PORTS, PCI_DATA_PORTS = (0xCF8, 0xCFB), (0xCFC, 0xCFF)
CRT_PORTS = ((0x3D4, 0x3D5), (0x3DA, 0x3DA))  # of the text screen, for guests that are not Linux
# Of KVM itself: no access to them is seen by a device.
PIC_PORTS = ((0x20, 0x21), (0xA0, 0xA1), (0x4D0, 0x4D1))
