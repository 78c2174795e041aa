"""The state in which a boot protocol wants a vCPU to begin: segments, control registers, page tables, MSRs."""

from __future__ import annotations

import struct

from corral.arch.x86_64 import layout
from corral.startup.enums import Enum
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory
    from corral.native import CData

CR0_PE, CR0_ET, CR0_NE, CR0_WP, CR0_PG = 1 << 0, 1 << 4, 1 << 5, 1 << 16, 1 << 31
CR4_PAE = 1 << 5
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11
RFLAGS_FIXED = 1 << 1

MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING = 0x1A0, 1
MSR_MTRR_DEFAULT, MTRR_ENABLE_WRITE_BACK = 0x2FF, 1 << 11 | 6
LVT_LINT0, LVT_LINT1 = 0x350, 0x360
DELIVERY_EXTINT, DELIVERY_NMI = 7 << 8, 4 << 8

# Where the boot GDT has code; data and a TSS follow. Linux's 64-bit boot protocol wants __BOOT_CS 0x10 and __BOOT_DS
# 0x18 (boot.rst); of 32-bit entries no protocol names selectors, but kernels that load none of their own, and have CS 8
# in their gates, find 8 and 0x10 with GRUB and QEMU.
CODE_SELECTOR_64, CODE_SELECTOR_32 = 0x10, 0x08
CODE_64, CODE_32, DATA = 0x00AF9B000000FFFF, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
TSS_32 = 0x00008B0000000067

PAGE_PRESENT, PAGE_WRITE, PAGE_LARGE = 1, 2, 1 << 7


class Mode(Enum):
    """The mode of the CPU at a guest's first instruction."""

    REAL = "real"
    PROTECTED = "protected"
    LONG = "long"


@record(frozen=True)
class Entry:
    """How a loaded guest is entered. All addresses are guest physical.

    `boot_info` is what the boot protocol passes: the zero page in RSI (LONG), hvm_start_info or Multiboot's
    information in EBX (PROTECTED), 0 for a flat binary; `magic` is in EAX. In REAL mode `rip` is a linear address
    below 1 MiB.
    """

    mode: Mode
    rip: int
    boot_info: int = 0
    magic: int = 0


def enter(vcpu: Vcpu, memory: GuestMemory, entry: Entry) -> None:
    """Puts the boot vCPU where `entry` says. Writes the boot GDT and page tables where the mode has them."""
    sregs = vcpu.get_sregs()
    if entry.mode is Mode.REAL:
        _real_mode(sregs, entry.rip)
    else:
        if entry.mode is Mode.LONG:
            _flat_segments(sregs, memory, CODE_SELECTOR_64, CODE_64)
        else:
            _flat_segments(sregs, memory, CODE_SELECTOR_32, CODE_32)
        sregs.cr0 = CR0_PE | CR0_ET | CR0_NE
        if entry.mode is Mode.LONG:
            _identity_map(memory)
            sregs.cr3 = layout.PAGE_TABLES
            sregs.cr4 |= CR4_PAE
            sregs.cr0 |= CR0_PG
            sregs.efer |= EFER_LME | EFER_LMA
    vcpu.set_sregs(sregs)

    regs = vcpu.get_regs()
    regs.rflags = RFLAGS_FIXED
    regs.rip = entry.rip & 0xF if entry.mode is Mode.REAL else entry.rip
    regs.rax = entry.magic
    if entry.mode is Mode.LONG:
        regs.rsi = entry.boot_info
    else:
        regs.rbx = entry.boot_info
    vcpu.set_regs(regs)


def firmware_msrs(vcpu: Vcpu) -> None:
    """What firmware leaves behind and kernels rely on: fast strings on, memory write-back by default."""
    vcpu.set_msrs(
        {MSR_MISC_ENABLE: MISC_ENABLE_FAST_STRING, MSR_MTRR_DEFAULT: MTRR_ENABLE_WRITE_BACK},
    )


def firmware_lapic(vcpu: Vcpu) -> None:
    """Virtual wire mode: LINT0 passes the PIC's interrupt on, LINT1 the NMI (MP specification 1.4, 3.6.2.2)."""
    lapic = vcpu.get_lapic()
    registers = memoryview(_bytes_of(lapic)).cast("B")
    for register, delivery in ((LVT_LINT0, DELIVERY_EXTINT), (LVT_LINT1, DELIVERY_NMI)):
        registers[register : register + 4] = struct.pack("<I", delivery)
    vcpu.set_lapic(lapic)


def _bytes_of(cdata: CData) -> memoryview:
    from corral.native import ffi

    return ffi.buffer(cdata)


def _real_mode(sregs: CData, address: int) -> None:
    for segment in (sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss):
        segment.base = segment.selector = 0
    sregs.cs.base = address & ~0xF
    sregs.cs.selector = address >> 4


def _flat_segments(sregs: CData, memory: GuestMemory, selector: int, code: int) -> None:
    table = bytes(selector) + struct.pack("<3Q", code, DATA, TSS_32)
    memory.write(layout.BOOT_GDT, table)
    sregs.gdt.base, sregs.gdt.limit = layout.BOOT_GDT, len(table) - 1
    sregs.idt.base, sregs.idt.limit = 0, 0
    load_segment(sregs.cs, selector, code)
    for segment in (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss):
        load_segment(segment, selector + 8, DATA)
    load_segment(sregs.tr, selector + 16, TSS_32)


def load_segment(segment: CData, selector: int, descriptor: int) -> None:
    """Fills the hidden part from an 8-byte descriptor with base 0 (SDM 3A, 3.4.5)."""
    granular = descriptor >> 55 & 1
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    segment.base, segment.selector = 0, selector
    segment.limit = limit << 12 | 0xFFF if granular else limit
    segment.type = descriptor >> 40 & 0xF
    segment.s = descriptor >> 44 & 1
    segment.dpl = descriptor >> 45 & 3
    segment.present = descriptor >> 47 & 1
    segment.avl = descriptor >> 52 & 1
    segment.l = descriptor >> 53 & 1
    segment.db = descriptor >> 54 & 1
    segment.g = granular
    segment.unusable = 0


def _identity_map(memory: GuestMemory) -> None:
    """The first 4 GiB in 2 MiB pages: PML4, PDPT, four PDs (SDM 3A, 4.5)."""
    flags = PAGE_PRESENT | PAGE_WRITE
    pml4 = layout.PAGE_TABLES
    pdpt, directories = pml4 + 0x1000, pml4 + 0x2000
    memory.write(pml4, struct.pack("<Q", pdpt | flags))
    memory.write(pdpt, struct.pack("<4Q", *(directories + i * 0x1000 | flags for i in range(4))))
    pages = (address | flags | PAGE_LARGE for address in range(0, 1 << 32, 1 << 21))
    memory.write(directories, struct.pack("<2048Q", *pages))
