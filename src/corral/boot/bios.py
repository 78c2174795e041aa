"""A PC's BIOS under a guest: for boot sectors of disks, and for programs that call one.

The image ends at 1 MiB, where a CPU of a PC begins. SeaBIOS is told of its machine by fw_cfg (devices/fw_cfg.py), and
finds virtio disks by ACPI's tables. From a disk it boots by itself; to a program it hands over by an option ROM, which
asks for it when the BIOS is done (real_mode.py).
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.acpi.root import RSDP_SIZE
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.ram import size_text
from corral.config import Firmware
from corral.files.file import Flaw, ImageFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.boot.real_mode import RealModeProgram
    from corral.memory import GuestMemory

LEAST_MEMORY = 32 << 20  # SeaBIOS takes 16 MiB while it sets up the machine
_FAR_JUMP = 0xEA  # what a BIOS has at the CPU's first address
_LARGEST_ROM = 32 << 10
_RANGE = struct.Struct("<QQI")  # of etc/e820: start, length, type

_ROM = "genroms/corral.rom"
_RSDP = "etc/acpi/rsdp"
# A command of etc/table-loader: allocate memory for a file, aligned, in a zone.
_ALLOCATE = struct.Struct("<I56sIB63x")
_ALLOCATE_COMMAND, _ALIGNMENT, _BIOS_SEGMENT = 1, 16, 2


def open_bios(firmware: Firmware, program: str, cpus: int) -> Bios:
    """The BIOS of a machine with so many processors, and the program at that path; "": none. Raises BootError."""
    if not program:
        return Bios(firmware, None, cpus)
    from corral.boot.real_mode import RealModeProgram

    opened = RealModeProgram(program)
    try:
        return Bios(firmware, opened, cpus)
    except BaseException:
        opened.close()
        raise


class Bios(Kernel):
    """The firmware as a kernel. `files` are for fw_cfg, by name; they are there when it is loaded.

    Raises BootError for an image that is none.
    """

    kind = "BIOS"

    def __init__(self, firmware: Firmware, program: RealModeProgram | None, cpus: int) -> None:
        """`program`: what it hands over to; None: it boots from a disk."""
        super().__init__(ImageFile(firmware.image, "BIOS"))
        self.program, self.cpus = program, cpus
        self.files: dict[str, bytes] = {}
        try:
            with ImageFile(firmware.rom, "option ROM") as rom:
                if rom.size > _LARGEST_ROM:
                    raise rom.error(f"is larger than {_LARGEST_ROM >> 10} KiB; name another")
                self._rom = rom.read(0, rom.size)
            self._check()
        except BaseException:
            super().close()
            raise

    def _check(self) -> None:
        room = layout.HIGH_MEMORY - layout.BIOS
        if not room // 2 <= self.file.size <= room:
            raise self.file.error("is no BIOS of 64 to 128 KiB; name SeaBIOS's bios-microvm.bin")
        if self.file.read(self.file.size + layout.BIOS_ENTRY - layout.HIGH_MEMORY, 1)[0] != _FAR_JUMP:
            raise self.file.error("has no jump where a CPU begins, so it is no BIOS; name SeaBIOS's bios-microvm.bin")

    def close(self) -> None:
        if self.program:
            self.program.close()
        super().close()

    def describe(self) -> KernelFacts:
        return KernelFacts(self.kind, self.file.size, entry=layout.BIOS_ENTRY)

    def hand_over(self) -> None:
        """Puts the program into memory: whatever the BIOS has left there."""
        if self.program:
            self.program.place()

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        if memory.size < LEAST_MEMORY:
            raise Flaw(f"needs a guest with {size_text(LEAST_MEMORY)}, this one has {size_text(memory.size)}")
        if self.program:
            self.program.prepare(memory, cmdline, initrd)
        elif cmdline or initrd is not None:
            raise Flaw("boots from a disk, which takes no command line and no initrd; leave them out")
        self.file.read_into(0, memory.view(layout.HIGH_MEMORY - self.file.size, self.file.size))
        self.files = self._files(memory, rsdp)
        return Entry(Mode.REAL, layout.BIOS_ENTRY)

    def _files(self, memory: GuestMemory, rsdp: int) -> dict[str, bytes]:
        end = layout.above_bios(memory.low_end)
        ranges = [(0, end, e820.RAM), (end, memory.low_end - end, e820.RESERVED)]
        ranges += [(start, length, e820.RAM) for start, length in memory.regions[1:]]
        files = {
            "etc/sercon-port": layout.COM1_PORTS[0].to_bytes(2, "little"),
            "etc/e820": b"".join(_RANGE.pack(*found) for found in ranges),
        }
        if rsdp:
            # The root pointer alone has to be where the BIOS wants it; the tables have their addresses.
            files[_RSDP] = memory.read(rsdp, RSDP_SIZE)
            name = _RSDP.encode()
            files["etc/table-loader"] = _ALLOCATE.pack(_ALLOCATE_COMMAND, name, _ALIGNMENT, _BIOS_SEGMENT)
        if self.program:
            files[_ROM] = self._rom
            files["bootorder"] = f"/rom@{_ROM}\n\0".encode()
        return files
