"""Flat binaries: raw code at an address that the caller names, for small guests of tests and benchmarks."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.ram import require_ram
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

_REAL_MODE_END = 1 << 20
_ENTRY_END = 1 << 32
# What the entry state itself occupies, by mode.
_OCCUPIED = {
    Mode.REAL: (),
    Mode.PROTECTED: ((layout.BOOT_GDT, layout.BOOT_GDT_END),),
    Mode.LONG: ((layout.BOOT_GDT, layout.BOOT_GDT_END), (layout.PAGE_TABLES, layout.PAGE_TABLES_END)),
}


class Flat(Kernel):
    """Raw code, trusted in nothing but that it is code."""

    kind = "flat"
    expects_bios = True

    def __init__(self, file: ImageFile, address: int, mode: Mode, entry: int) -> None:
        super().__init__(file)
        self.address, self.mode, self.entry = address, mode, entry
        self.code = ((address, file.size, address),)

    def describe(self) -> KernelFacts:
        return KernelFacts(self.kind, self.file.size, loaded_size=self.file.size, entry=self.entry)

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        if cmdline or initrd is not None:
            raise Flaw("is a flat binary, which takes no command line and no initrd; leave them out")
        end = self.address + self.file.size
        require_ram(memory, self.address, self.file.size, "the flat binary")
        for low, high in _OCCUPIED[self.mode]:
            if self.address < high and low < end:
                raise Flaw(f"lies over {low:#x} to {high:#x}, which {self.mode.value} mode needs; load it elsewhere")
        limit = _REAL_MODE_END if self.mode is Mode.REAL else _ENTRY_END
        if not self.address <= self.entry < min(end, limit):
            raise Flaw(f"has no entry at {self.entry:#x} in {self.mode.value} mode; give one within it")
        self.file.read_into(0, memory.view(self.address, self.file.size))
        return Entry(self.mode, self.entry)
