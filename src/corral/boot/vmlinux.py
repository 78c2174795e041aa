"""vmlinux: Linux as the linker leaves it, an ELF executable; other ELF kernels with a 64-bit entry too."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.arch.x86_64.boot_params import (
    BOOT_FLAG,
    HEADER_MAGIC,
    LOADED_HIGH,
    VERSION_NEWEST,
    XLF_CAN_BE_LOADED_ABOVE_4G,
    XLF_KERNEL_64,
    SetupHeader,
)
from corral.arch.x86_64.registers import Entry
from corral.boot import linux
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.ram import require_room
from corral.files import elf
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

_BANNER = b"Linux version "
_BANNER_MAX = 512
# Linux has its banner among the first megabytes of its read-only data.
_SEARCHED = 64 << 20
_PIECE = 1 << 20


class Vmlinux(Kernel):
    """Loaded where it is linked, which is what `nokaslr` means; entered at its own 64-bit entry."""

    kind = "vmlinux"

    def __init__(self, file: ImageFile, executable: elf.Elf) -> None:
        super().__init__(file)
        if executable.bits == 32:
            raise Flaw("is a 32-bit kernel; use an x86-64 one, or enter it by PVH")
        elf.require_free(executable.segments, layout.TAKEN_BY_LINUX)
        self.elf = executable
        self.is_linux, self.code = executable.is_linux, executable.code

    def describe(self) -> KernelFacts:
        return KernelFacts(
            self.kind,
            self.file.size,
            version=find_banner(self.file, self.elf),
            loaded_size=self.elf.end - self.elf.start,
            entry=self.elf.entry,
            pvh_entry=self.elf.pvh_entry,
            cmdline_limit=linux.CMDLINE_SIZE,
        )

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        linux.check_cmdline(cmdline, linux.CMDLINE_SIZE)
        load_segments(self.file, self.elf, memory)
        taken = (self.elf.start, self.elf.end)
        return linux.prepare(memory, _header(), self.elf.entry, taken, cmdline, initrd, rsdp)


def load_segments(file: ImageFile, executable: elf.Elf, memory: GuestMemory) -> None:
    """Read each segment straight to its place in guest memory."""
    require_room(executable, memory)
    for segment in executable.segments:
        file.read_into(segment.offset, memory.view(segment.physical, segment.file_size))


def find_banner(file: ImageFile, executable: elf.Elf) -> str | None:
    """What follows "Linux version " in an ELF kernel; None where it is no Linux."""
    for segment in executable.segments:
        end = segment.offset + min(segment.file_size, _SEARCHED)
        for offset in range(segment.offset, end, _PIECE):
            # Pieces overlap, so that a banner across their border is found whole.
            piece = file.read(offset, min(_PIECE + _BANNER_MAX, end - offset))
            found = piece.find(_BANNER)
            while found >= 0:
                text = piece[found + len(_BANNER) : found + _BANNER_MAX]
                if text[:1].isdigit():
                    return linux.text(text)
                found = piece.find(_BANNER, found + 1)
    return None


def _header() -> SetupHeader:
    """The setup header that a bzImage around this vmlinux would have, as far as its entry looks."""
    header = SetupHeader()
    header.boot_flag = BOOT_FLAG
    header.jump_distance = 0x6A  # as far as protocol 2.15 reaches: 0x26c
    header.header = HEADER_MAGIC
    header.version = VERSION_NEWEST
    header.loadflags = LOADED_HIGH
    header.initrd_addr_max = linux.INITRD_ADDR_MAX
    header.cmdline_size = linux.CMDLINE_SIZE
    header.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G
    return header
