"""Multiboot: the protocol of teaching operating systems and of Xen; entered in 32-bit protected mode, paging off.

Source: the Multiboot Specification 0.6.96, chapter 3. Version 2 is multiboot2.py; both load alike.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.records import Record, u32
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot import linux, vmlinux
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.modules import find_place
from corral.boot.modules import load as load_modules
from corral.config import Module
from corral.files.elf import Elf, Segment, check_segments, require_free
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.boot.elf_sections import Sections
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

LOADER_NAME = b"Corral\0"
SEARCHED = 8192  # bytes from the file's start that hold the whole header
_MAGIC = b"\x02\xb0\xad\x1b"
_ENTRY_MAGIC = 0x2BADB002  # in EAX
_HEADER = struct.Struct("<III")  # magic, flags, checksum
_ADDRESSES = struct.Struct("<IIIII")  # of the header, of its load, its end, the end of .bss, the entry

# Flags of the header: those below 1 << 16 are requirements, of which 1 << 2, a video mode, is a wish.
_ALIGNED, _MEMORY, _VIDEO, _HAS_ADDRESSES = 1 << 0, 1 << 1, 1 << 2, 1 << 16
_REQUIREMENTS = 0xFFFF
# Flags of the information structure: which of its fields count.
_INFO_MEMORY, _INFO_CMDLINE, _INFO_MODULES, _INFO_SECTIONS = 1 << 0, 1 << 2, 1 << 3, 1 << 5
_INFO_MAP, _INFO_LOADER = 1 << 6, 1 << 9

_MODULE = struct.Struct("<IIII")  # start, end, words, reserved
_RANGE = struct.Struct("<IQQI")  # size of the rest, start, length, type


class Info(Record):
    """The information structure, as far as it is filled in. All addresses are guest physical."""

    SIZE = 116
    __slots__ = ()

    flags = u32(0)
    mem_lower = u32(4)  # KiB from 0
    mem_upper = u32(8)  # KiB from 1 MiB
    cmdline = u32(16)
    mods_count = u32(20)
    mods_addr = u32(24)
    sections_count = u32(28)
    sections_size = u32(32)  # of one
    sections_addr = u32(36)
    sections_names = u32(40)
    mmap_length = u32(44)
    mmap_addr = u32(48)
    boot_loader_name = u32(64)


# What a BIOS has in its data, by offset there, two bytes each: such kernels come from its time, and Xen puts its start
# below what the first lines say.
_BIOS_DATA = {
    0x00: layout.COM1_PORTS[0],
    0x0E: layout.EBDA >> 4,  # the segment of its extended data
    0x10: 0x0220,  # equipment: a colour screen of 80 by 25, a serial port
    0x13: layout.EBDA >> 10,  # KiB of RAM from 0
    0x49: 80 << 8 | 3,  # the screen's mode, and its columns
    0x63: layout.CRT_PORTS[0][0],
    0x84: 16 << 8 | 24,  # its last row; the height of a character
}

_MAP = layout.MULTIBOOT_INFO + 128
_NAME = _MAP + 8 * _RANGE.size
_MODULES = layout.MULTIBOOT_INFO + 512


def recognise(file: ImageFile, head: bytes, executable: Elf | None) -> Multiboot | None:
    """The kernel that a header of version 1 in `head` (32 KiB, or all of the file) makes of a file.

    `executable`: the file is one that elf.py takes. None when there is no header, and none for an ELF file without
    being one. Raises Flaw.
    """
    found = _find(head)
    if found is None:
        return None
    offset, flags = found
    own = _own_addresses(head, offset, flags, file.size) if flags & _HAS_ADDRESSES else None
    image = own or executable
    return Multiboot(file, image, own is None, flags) if image else None


def _find(head: bytes) -> tuple[int, int] | None:
    """Offset and flags of the header."""
    at = head.find(_MAGIC, 0, SEARCHED)
    while at >= 0:
        if at % 4 == 0 and at + _HEADER.size <= min(len(head), SEARCHED):
            magic, flags, checksum = _HEADER.unpack_from(head, at)
            if (magic + flags + checksum) & 0xFFFFFFFF == 0:
                return at, flags
        at = head.find(_MAGIC, at + 1, SEARCHED)
    return None


def _own_addresses(head: bytes, offset: int, flags: int, size: int) -> Elf:
    """What the header itself says of where the kernel belongs, for a file in any format."""
    if offset + _HEADER.size + _ADDRESSES.size > len(head):
        raise Flaw("is cut off within its Multiboot header; copy or build it again")
    header, load, load_end, bss_end, entry = _ADDRESSES.unpack_from(head, offset + _HEADER.size)
    return by_addresses(offset, header, load, load_end, bss_end, entry, size)


def by_addresses(offset: int, header: int, load: int, load_end: int, bss_end: int, entry: int, size: int) -> Elf:
    """A kernel in any format, whose header is at `offset` and belongs at `header`; 0 for an end means: as the file
    ends, and nothing behind it. Raises Flaw."""
    start = offset - (header - load)
    if load > header or start < 0:
        raise Flaw(f"has a Multiboot header for {header:#x} that is not within what is loaded; build it again")
    length = load_end - load if load_end else size - start
    memory_size = bss_end - load if bss_end else length
    if length <= 0 or memory_size < length:
        raise Flaw("has addresses in its Multiboot header that are not in order; build it again")
    segments = (Segment(start, load, load, length, memory_size),)
    check_segments(segments, size)
    if not load <= entry < load + memory_size:
        raise Flaw(f"has its entry point {entry:#x} outside of what is loaded; build it again")
    return Elf(32, entry, segments, None, False)


class MultibootKernel(Kernel):
    """What both versions have in common."""

    takes_modules = True
    expects_bios = True

    def __init__(self, file: ImageFile, image: Elf, is_elf: bool) -> None:
        """`is_elf`: the file is an ELF executable, and its own header says where it belongs."""
        super().__init__(file)
        require_free(image.segments, layout.TAKEN_BELOW_1_MIB)
        self.image, self._is_elf, self.code = image, is_elf, image.code

    def describe(self) -> KernelFacts:
        return KernelFacts(
            self.kind, self.file.size, loaded_size=self.image.end - self.image.start, entry=self.image.entry
        )

    def _all_modules(self, initrd: str | os.PathLike[str] | None) -> tuple[Module, ...]:
        import os

        return ((Module(os.fsdecode(initrd)),) if initrd is not None else ()) + self.modules

    def _place_image(self, memory: GuestMemory) -> list[tuple[int, int]]:
        """Returns what of the memory is taken."""
        vmlinux.load_segments(self.file, self.image, memory)
        for offset, value in _BIOS_DATA.items():
            memory.write(layout.BIOS_DATA + offset, value.to_bytes(2, "little"))
        return [(segment.physical, segment.end) for segment in self.image.segments]

    def _place_sections(self, memory: GuestMemory, taken: list[tuple[int, int]]) -> Sections | None:
        if not self._is_elf:
            return None
        from corral.boot import elf_sections

        return elf_sections.load(self.file, memory, taken)


class Multiboot(MultibootKernel):
    """Version 1. A video mode that the header wishes for is not there; such a kernel looks, and finds none."""

    kind = "multiboot"

    def __init__(self, file: ImageFile, image: Elf, is_elf: bool, flags: int) -> None:
        super().__init__(file, image, is_elf)
        unknown = flags & _REQUIREMENTS & ~(_ALIGNED | _MEMORY | _VIDEO)
        if unknown:
            raise Flaw(f"requires features that Multiboot does not have (flags {unknown:#x}); build it again")

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        linux.check_cmdline(cmdline, layout.COMMAND_LINE_END - layout.COMMAND_LINE - 1)
        taken = self._place_image(memory)
        memory.write(layout.COMMAND_LINE, cmdline + b"\0")
        info = Info()
        info.flags = _INFO_MEMORY | _INFO_CMDLINE | _INFO_MODULES | _INFO_MAP | _INFO_LOADER
        info.mem_lower, info.mem_upper = basic_memory(memory)
        info.cmdline = layout.COMMAND_LINE
        if modules := self._all_modules(initrd):
            if _MODULES + len(modules) * _MODULE.size > layout.MULTIBOOT_INFO_END:
                raise Flaw(f"would get {len(modules)} modules, more than fit into a page; give it fewer")
            words = layout.COMMAND_LINE + len(cmdline) + 1
            placed = load_modules(memory, modules, taken, words, layout.COMMAND_LINE_END)
            table = (_MODULE.pack(address, address + size, text, 0) for address, size, text in placed)
            memory.write(_MODULES, b"".join(table))
            info.mods_count, info.mods_addr = len(placed), _MODULES
            taken += ((address, address + size) for address, size, _ in placed)
        if sections := self._place_sections(memory, taken):
            address = find_place(memory, len(sections.table), taken)
            memory.write(address, sections.table)
            info.flags |= _INFO_SECTIONS
            info.sections_count, info.sections_size = sections.count, sections.entry_size
            info.sections_addr, info.sections_names = address, sections.names
        ranges = e820.memory_map(memory.regions)
        info.mmap_addr, info.mmap_length = _MAP, len(ranges) * _RANGE.size
        memory.write(_MAP, b"".join(_RANGE.pack(_RANGE.size - 4, *entry) for entry in ranges))
        memory.write(_NAME, LOADER_NAME)
        info.boot_loader_name = _NAME
        memory.write(layout.MULTIBOOT_INFO, info.data)
        return Entry(Mode.PROTECTED, self.image.entry, layout.MULTIBOOT_INFO, _ENTRY_MAGIC)


def basic_memory(memory: GuestMemory) -> tuple[int, int]:
    """KiB of RAM from 0, and from 1 MiB, each up to the first hole."""
    _, first = memory.regions[0]
    return layout.EBDA >> 10, (first - layout.HIGH_MEMORY) >> 10
