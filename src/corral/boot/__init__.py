"""Booting: from a file that a person names to guest memory and the state in which the first vCPU enters it.

Pure Python, no KVM. open_kernel() tells Linux bzImages, ELF kernels, PVH guests and Multiboot kernels apart by their
content; open_flat() takes raw code for an address; bios.py has a PC's BIOS. All return a Kernel: load() it, get an
Entry.
"""

from __future__ import annotations

from corral.arch.x86_64.registers import Entry, Mode
from corral.boot.kernel import Kernel, KernelFacts
from corral.files.file import Flaw, ImageFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.config import MachineConfig
    from corral.files.elf import Elf

__all__ = ["Entry", "Kernel", "KernelFacts", "Mode", "needs_bios", "open_flat", "open_kernel", "open_payload"]

PROTOCOLS = ("linux", "pvh", "multiboot", "multiboot2")
# Of the headers of Multiboot 1 and 2. To look for four bytes costs less than to import what knows the rest.
_MULTIBOOT, _MULTIBOOT2 = b"\x02\xb0\xad\x1b", b"\xd6\x50\x52\xe8"


def open_payload(config: MachineConfig) -> Kernel:
    """The kernel of a machine, with the modules that it gets. Raises BootError as open_kernel() does."""
    kernel: Kernel
    if config.bios is not None:
        from corral.boot.bios import open_bios

        kernel = open_bios(config.bios, config.kernel, config.cpus)
    elif config.flat is not None:
        kernel = open_flat(config.kernel, config.flat.address, config.flat.mode, config.flat.entry)
    else:
        kernel = open_kernel(config.kernel, config.protocol)
    kernel.modules, kernel.injection = config.modules, config.injection
    return kernel


def open_kernel(path: str | os.PathLike[str], protocol: str | None = None) -> Kernel:
    """Open and validate the kernel at `path`: a bzImage, a vmlinux, an ELF file with a PVH entry, or what has a
    Multiboot header.

    `protocol` is one of PROTOCOLS where a kernel offers several; None takes Linux's for Linux, and of what is no
    Linux the first in that order. Raises BootError (one line: the file, what is wrong, what to do), within
    milliseconds whatever the file is.
    """
    if protocol not in (None, *PROTOCOLS):
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    file = ImageFile(path, "kernel")
    try:
        return _recognise(file, protocol)
    except BaseException as error:
        file.close()
        if isinstance(error, Flaw):
            raise file.error(str(error)) from None
        raise


def needs_bios(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path` is a program with Linux's header that calls a PC's BIOS, as iPXE does."""
    with ImageFile(path, "kernel") as file:
        head = file.head(4096)
    from corral.files import magic

    if head.startswith(magic.ELF):
        return False
    from corral.boot import bzimage

    if not bzimage.recognises(head) or bzimage.has_payload(head):
        return False
    from corral.boot.unpacked import calls_bios

    return calls_bios(head)


def open_flat(path: str | os.PathLike[str], address: int, mode: Mode = Mode.REAL, entry: int | None = None) -> Kernel:
    """Raw code, to be loaded at guest physical `address` and entered there, or at `entry`, in `mode`."""
    from corral.boot.flat import Flat

    return Flat(ImageFile(path, "flat binary"), address, mode, address if entry is None else entry)


def _recognise(file: ImageFile, protocol: str | None) -> Kernel:
    # Each format is a module of its own, imported when a file has that format: start-up counts.
    from corral.files import magic

    head = file.head(4096)
    if head.startswith(magic.ELF):
        return _recognise_elf(file, protocol)
    from corral.boot import bzimage

    if bzimage.recognises(head):
        if protocol not in (None, "linux"):
            name = protocol.replace("pvh", "PVH")
            raise Flaw(f"is a bzImage, which has no {name} entry; use the vmlinux, or boot it by the Linux protocol")
        if bzimage.has_payload(head):
            return bzimage.BzImage(file, head)
        from corral.boot.unpacked import Unpacked

        return Unpacked(file, head)
    multiboot = _multiboot(file, protocol, None)
    if multiboot is not None:
        return multiboot
    from corral.boot.not_a_kernel import instead_of_kernel

    raise Flaw(instead_of_kernel(file))


def _recognise_elf(file: ImageFile, protocol: str | None) -> Kernel:
    from corral.files import elf

    try:
        executable = elf.parse(file.head(elf.HEAD), file.size, file.read)
    except Flaw:
        # Multiboot's own addresses count, whatever an ELF header around them says.
        if multiboot := _multiboot(file, protocol, None):
            return multiboot
        raise
    wants_pvh = protocol == "pvh" or (protocol is None and not executable.is_linux)
    if executable.pvh_entry is not None and wants_pvh:
        from corral.boot.pvh import Pvh

        return Pvh(file, executable)
    if protocol == "pvh":
        raise Flaw("has no PVH entry; build it with CONFIG_PVH, or boot it by the Linux protocol")
    if multiboot := _multiboot(file, protocol, executable):
        return multiboot
    if protocol is None and executable.pvh_entry is None:
        elf.require_kernel(executable)
    if executable.bits == 32:
        raise Flaw("is a 32-bit kernel without a PVH entry or a Multiboot header; use an x86-64 one, or build it so")
    from corral.boot.vmlinux import Vmlinux

    return Vmlinux(file, executable)


def _multiboot(file: ImageFile, protocol: str | None, executable: Elf | None) -> Kernel | None:
    """The file as a Multiboot kernel, None when it is none; `executable`: it is an ELF file."""
    if protocol not in (None, "multiboot", "multiboot2"):
        return None
    head = file.head(32 << 10)
    if protocol != "multiboot2" and _MULTIBOOT in head:
        from corral.boot import multiboot

        if first := multiboot.recognise(file, head, executable):
            return first
    if protocol != "multiboot" and _MULTIBOOT2 in head:
        from corral.boot import multiboot2

        if second := multiboot2.recognise(file, head, executable):
            return second
    if protocol is not None:
        raise Flaw(f"has no {protocol.capitalize()} header; boot it by another --protocol")
    return None
