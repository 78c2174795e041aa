"""PVH: an ELF kernel entered in 32-bit protected mode, with struct hvm_start_info in EBX.

Source: Xen's docs/misc/pvh.pandoc ("x86/HVM direct boot ABI") and public header arch-x86/hvm/start_info.h.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.records import Record, u32, u64
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot import linux, vmlinux
from corral.boot.kernel import Kernel, KernelFacts
from corral.files.elf import require_free
from corral.files.file import Flaw
from corral.memory import RAM_HOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.files.elf import Elf
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

MAGIC = 0x336EC578
_VERSION = 1  # the one that has a memory map
_MODULE = struct.Struct("<QQQQ")  # address, size, command line, reserved
_MEMORY_RANGE = struct.Struct("<QQII")  # address, size, type, reserved


class StartInfo(Record):
    """struct hvm_start_info, version 1. All addresses are guest physical."""

    SIZE = 56
    __slots__ = ()

    magic = u32(0)
    version = u32(4)
    flags = u32(8)
    nr_modules = u32(12)
    modlist_paddr = u64(16)
    cmdline_paddr = u64(24)
    rsdp_paddr = u64(32)
    memmap_paddr = u64(40)
    memmap_entries = u32(48)


_MEMORY_MAP = layout.PVH_START_INFO + 64
_MODULES = _MEMORY_MAP + 8 * _MEMORY_RANGE.size  # as many ranges as e820.memory_map() ever makes, and more


class Pvh(Kernel):
    """Enters at the address in the ELF note XEN_ELFNOTE_PHYS32_ENTRY."""

    kind = "pvh"
    takes_modules = True

    def __init__(self, file: ImageFile, executable: Elf) -> None:
        super().__init__(file)
        if executable.pvh_entry is None:
            raise Flaw("has no PVH entry; build it with CONFIG_PVH, or boot it by the Linux protocol")
        require_free(executable.segments, layout.TAKEN_BELOW_1_MIB)
        self.elf = executable
        self.is_linux, self.code = executable.is_linux, executable.code
        self.entry = executable.pvh_entry

    def describe(self) -> KernelFacts:
        return KernelFacts(
            self.kind,
            self.file.size,
            version=vmlinux.find_banner(self.file, self.elf),
            loaded_size=self.elf.end - self.elf.start,
            entry=self.entry,
            pvh_entry=self.entry,
        )

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        linux.check_cmdline(cmdline, layout.COMMAND_LINE_END - layout.COMMAND_LINE - 1)
        vmlinux.load_segments(self.file, self.elf, memory)
        memory.write(layout.COMMAND_LINE, cmdline + b"\0")
        ranges = e820.memory_map(memory.regions)
        info = StartInfo()
        info.magic, info.version = MAGIC, _VERSION
        info.cmdline_paddr = layout.COMMAND_LINE
        info.rsdp_paddr = rsdp
        info.memmap_paddr, info.memmap_entries = _MEMORY_MAP, len(ranges)
        modules = []
        if initrd is not None:
            from corral.boot.initrd import load_initrd

            taken = [(self.elf.start, self.elf.end)]
            address, size = load_initrd(
                memory, initrd, taken, RAM_HOLE, above_4g=False, any_content=not self._has_banner()
            )
            modules.append((address, size, 0))
        if self.modules:
            from corral.boot import modules as placing

            taken = [(self.elf.start, self.elf.end), *((start, start + size) for start, size, _ in modules)]
            words = layout.COMMAND_LINE + len(cmdline) + 1
            modules += placing.load(memory, self.modules, taken, words, layout.COMMAND_LINE_END)
        if modules:
            if _MODULES + len(modules) * _MODULE.size > layout.PVH_START_INFO + layout.PAGE_SIZE:
                raise Flaw(f"would get {len(modules)} modules, more than fit into a page; give it fewer")
            info.nr_modules, info.modlist_paddr = len(modules), _MODULES
            memory.write(_MODULES, b"".join(_MODULE.pack(*module, 0) for module in modules))
        memory.write(_MEMORY_MAP, b"".join(_MEMORY_RANGE.pack(*entry, 0) for entry in ranges))
        memory.write(layout.PVH_START_INFO, info.data)
        return Entry(Mode.PROTECTED, self.entry, layout.PVH_START_INFO)

    def _has_banner(self) -> bool:
        return self.is_linux or vmlinux.find_banner(self.file, self.elf) is not None
