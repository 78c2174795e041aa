"""Programs with the header of a Linux kernel but no kernel packed in them: memtest86+ runs, firmware's clients cannot.

Source: boot.rst, "64-bit Boot Protocol": what comes after the setup code is loaded at pref_address, and entered 0x200
bytes behind that.
"""

from __future__ import annotations

from corral.arch.x86_64.boot_params import (
    LOADED_HIGH,
    VERSION_CMDLINE_SIZE,
    VERSION_XLOADFLAGS,
    XLF_KERNEL_64,
    SetupHeader,
)
from corral.arch.x86_64.registers import Entry
from corral.boot import linux
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.ram import require_ram
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

MAX_LOADED = 64 << 20  # far more than a program of this kind has
_ENTRY_64 = 0x200
_SECTOR = 512
_LOWEST = 1 << 20
_OLD_CMDLINE_SIZE = 255


def calls_bios(head: bytes) -> bool:
    """Whether a program with such a header has no other entry than that in real mode."""
    header = SetupHeader(head)
    return header.version < VERSION_XLOADFLAGS or not header.loadflags & LOADED_HIGH


class Unpacked(Kernel):
    """Loaded where it wants to be. Raises Flaw for what has no 64-bit entry."""

    kind = "unpacked program"

    def __init__(self, file: ImageFile, head: bytes) -> None:
        super().__init__(file)
        self.header = header = SetupHeader(head)
        self._setup_size = _SECTOR * (1 + (header.setup_sects or 4))
        if calls_bios(head):
            raise Flaw("is a program that calls a PC's BIOS, as iPXE does; boot it with --bios")
        if not header.xloadflags & XLF_KERNEL_64:
            raise Flaw("is a 32-bit program; use the one for x86-64 (memtest86+x64.bin)")
        self._size = file.size - self._setup_size
        if not _ENTRY_64 < self._size <= MAX_LOADED or header.init_size < self._size:
            raise Flaw("has the header of a kernel but no payload, nor the size that it claims; copy it again")
        if header.pref_address < _LOWEST:
            raise Flaw(f"wants to be at {header.pref_address:#x}, where the boot structures are; use another kernel")

    def describe(self) -> KernelFacts:
        return KernelFacts(
            self.kind,
            self.file.size,
            version=self._version(),
            loaded_size=self.header.init_size,
            entry=self.header.pref_address + _ENTRY_64,
            cmdline_limit=self._cmdline_limit,
        )

    @property
    def _cmdline_limit(self) -> int:
        return self.header.cmdline_size if self.header.version >= VERSION_CMDLINE_SIZE else _OLD_CMDLINE_SIZE

    def _version(self) -> str | None:
        offset = 0x200 + self.header.kernel_version
        if not self.header.kernel_version or offset >= self._setup_size:
            return None
        return linux.text(self.file.read(offset, min(256, self._setup_size - offset)))

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        linux.check_cmdline(cmdline, self._cmdline_limit)
        start = self.header.pref_address
        require_ram(memory, start, self.header.init_size, "the program (its init_size)")
        self.file.read_into(self._setup_size, memory.view(start, self._size))
        taken = (start, start + self.header.init_size)
        return linux.prepare(memory, self.header, start + _ENTRY_64, taken, cmdline, initrd, rsdp)
