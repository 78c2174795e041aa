"""The 64-bit Linux boot protocol: what a kernel that is already in place wants beside it.

Source: the kernel's Documentation/arch/x86/boot.rst, "64-bit Boot Protocol". The kernel is entered at
startup_64 of vmlinux, behind its own decompressor: at the address that it is linked for, so nothing has to be
relocated.
"""

from __future__ import annotations

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.boot_params import LOADER_UNDEFINED, XLF_CAN_BE_LOADED_ABOVE_4G, BootParams
from corral.arch.x86_64.registers import Entry, Mode
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.arch.x86_64.boot_params import SetupHeader
    from corral.memory import GuestMemory

# What x86-64 Linux has in its own setup header: COMMAND_LINE_SIZE less the zero, and the highest byte of an
# initrd.
CMDLINE_SIZE = 2047
INITRD_ADDR_MAX = 0x7FFFFFFF


def check_cmdline(cmdline: bytes, limit: int) -> None:
    """Flaw unless the kernel can take this command line: at most `limit` bytes, no zero among them."""
    limit = min(limit, layout.COMMAND_LINE_END - layout.COMMAND_LINE - 1)
    if len(cmdline) > limit:
        raise Flaw(f"takes a command line of {limit} bytes, this one has {len(cmdline)}; shorten it")
    if b"\0" in cmdline:
        raise Flaw("takes no zero byte in its command line; remove it")


def prepare(
    memory: GuestMemory,
    header: SetupHeader,
    entry: int,
    kernel: tuple[int, int],
    cmdline: bytes,
    initrd: str | os.PathLike[str] | None,
    rsdp: int,
) -> Entry:
    """Command line, initrd and zero page for a kernel that lies in `kernel` (start, end) with its `entry`."""
    params = BootParams()
    params.take_header(header)
    params.type_of_loader = LOADER_UNDEFINED
    params.acpi_rsdp_addr = rsdp  # protocol 2.14; older kernels find it where it lies
    memory.write(layout.COMMAND_LINE, cmdline + b"\0")
    params.set_command_line(layout.COMMAND_LINE)
    if initrd is not None:
        from corral.boot.initrd import load_initrd

        high = bool(header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)
        address, size = load_initrd(memory, initrd, [kernel], header.initrd_addr_max + 1, high)
        params.set_initrd(address, size)
    for start, length, kind in e820.memory_map(memory.regions):
        params.add_e820(start, length, kind)
    memory.write(layout.ZERO_PAGE, params.data)
    return Entry(Mode.LONG, entry, layout.ZERO_PAGE)


def text(raw: bytes) -> str | None:
    """The text at the start of `raw`, up to a zero or the end of the line; None if there is none."""
    line = raw.split(b"\0", 1)[0].split(b"\n", 1)[0].decode("ascii", "replace")
    return "".join(c if c.isprintable() else "?" for c in line).strip() or None
