"""Programs that are entered in real mode, with a BIOS below them: iPXE, memdisk, Linux the old way.

Source: boot.rst, "The Real-Mode Kernel Header", "Loading The Rest of The Kernel" and "Running the Kernel".
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.arch.x86_64.boot_params import (
    BOOT_FLAG,
    CAN_USE_HEAP,
    HEADER_MAGIC,
    LOADED_HIGH,
    LOADER_UNDEFINED,
    VERSION_CMDLINE_POINTER,
    VERSION_CMDLINE_SIZE,
    VERSION_HEAP,
    VERSION_INITRD_ADDR_MAX,
    SetupHeader,
)
from corral.boot import linux
from corral.boot.initrd import find_place
from corral.boot.ram import require_ram
from corral.files.file import Flaw, ImageFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.memory import GuestMemory

_SECTOR = 512
_DEFAULT_SETUP_SECTORS = 4  # what 0 in setup_sects means
_HEADER = 0x200  # where the setup code is entered, and what heap_end_ptr leaves out
_OLD_CMDLINE_SIZE = 255
_OLD_INITRD_ADDR_MAX = 0x37FFFFFF
_BIOS_KEEPS = 1 << 20  # of the end of RAM, for its disks


class RealModeProgram:
    """Valid as far as its header goes. Raises BootError for what has none. Close it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = ImageFile(path, "kernel")
        self._initrd: ImageFile | None = None
        try:
            self._read_header()
        except BaseException as error:
            self.file.close()
            if isinstance(error, Flaw):
                raise self.file.error(str(error)) from None
            raise

    def _read_header(self) -> None:
        self.header = header = SetupHeader(self.file.head(SetupHeader.SIZE))
        if header.boot_flag != BOOT_FLAG or header.header != HEADER_MAGIC:
            raise Flaw(
                "has no header of Linux's, so a BIOS cannot be asked to start it; if it is a disk, name it with --disk"
            )
        if header.version < VERSION_CMDLINE_POINTER or not header.loadflags & LOADED_HIGH:
            raise Flaw("is loaded below 640 KiB, as no kernel is since 1998; use a newer one")
        self._setup_size = _SECTOR * (1 + (header.setup_sects or _DEFAULT_SETUP_SECTORS))
        if layout.REAL_MODE_SETUP + self._setup_size > layout.REAL_MODE_STACK - _SECTOR:
            raise Flaw("has setup code that leaves no room for a stack in its 64 KiB; build it again")
        self._size = self.file.size - self._setup_size
        if self._size <= 0:
            raise Flaw("ends within its setup code; copy it again")

    def close(self) -> None:
        self.file.close()
        if self._initrd:
            self._initrd.close()

    def prepare(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None) -> None:
        """Decides where everything goes. Raises BootError for what has no room."""
        try:
            header = self.header
            limit = header.cmdline_size if header.version >= VERSION_CMDLINE_SIZE else _OLD_CMDLINE_SIZE
            linux.check_cmdline(cmdline, limit or _OLD_CMDLINE_SIZE)
            require_ram(memory, layout.HIGH_MEMORY, self._size, "the program")
        except Flaw as flaw:
            raise self.file.error(str(flaw)) from None
        header.type_of_loader = LOADER_UNDEFINED
        if header.version >= VERSION_HEAP:
            header.loadflags |= CAN_USE_HEAP
            header.heap_end_ptr = layout.REAL_MODE_STACK - layout.REAL_MODE_SETUP - _HEADER
        header.cmd_line_ptr = layout.COMMAND_LINE
        self._memory, self._cmdline = memory, cmdline
        if initrd is not None:
            self._find_initrd(memory, ImageFile(initrd, "initrd"))

    def _find_initrd(self, memory: GuestMemory, file: ImageFile) -> None:
        self._initrd = file
        header = self.header
        highest = header.initrd_addr_max if header.version >= VERSION_INITRD_ADDR_MAX else _OLD_INITRD_ADDR_MAX
        taken = [(layout.HIGH_MEMORY, layout.HIGH_MEMORY + self._size)]
        end = min(highest + 1, layout.above_bios(memory.low_end) - _BIOS_KEEPS)
        try:
            header.ramdisk_image = find_place(memory, file.size, taken, end, above_4g=False)
        except Flaw as flaw:
            raise file.error(str(flaw)) from None
        header.ramdisk_size = file.size

    def place(self) -> None:
        """Puts it into memory, for its entry at REAL_MODE_SETUP. After prepare(); may be done again."""
        memory = self._memory
        setup = bytearray(self.file.read(0, self._setup_size))
        known = min(self.header.end, len(setup))
        setup[:known] = self.header.data[:known]
        memory.write(layout.REAL_MODE_SETUP, setup)
        memory.write(layout.COMMAND_LINE, self._cmdline + b"\0")
        self.file.read_into(self._setup_size, memory.view(layout.HIGH_MEMORY, self._size))
        if self._initrd:
            file = self._initrd
            file.read_into(0, memory.view(self.header.ramdisk_image, file.size))
