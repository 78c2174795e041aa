"""Booting: from a file that a person names to guest memory and the state in which the first vCPU enters it.

Pure Python, no KVM. open_kernel() tells Linux bzImages, ELF kernels and PVH guests apart by their content;
open_flat() takes raw code for an address. Both return a Kernel: load() it, get an Entry.
"""

from __future__ import annotations

from corral.boot.file import Flaw, ImageFile
from corral.boot.kernel import Entry, Kernel, KernelFacts, Mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

__all__ = ["Entry", "Kernel", "KernelFacts", "Mode", "open_flat", "open_kernel"]


def open_kernel(path: str | os.PathLike[str], protocol: str | None = None) -> Kernel:
    """Open and validate the kernel at `path`: a bzImage, a vmlinux, or an ELF file with a PVH entry.

    `protocol` is "linux" or "pvh" where a kernel offers both; None takes Linux's for Linux, PVH for what only
    has that. Raises BootError (one line: the file, what is wrong, what to do), within milliseconds whatever
    the file is.
    """
    if protocol not in (None, "linux", "pvh"):
        raise ValueError(f"protocol {protocol!r} is not 'linux' or 'pvh'")
    file = ImageFile(path, "kernel")
    try:
        return _recognise(file, protocol)
    except BaseException as error:
        file.close()
        if isinstance(error, Flaw):
            raise file.error(str(error)) from None
        raise


def open_flat(path: str | os.PathLike[str], address: int, mode: Mode = Mode.REAL, entry: int | None = None) -> Kernel:
    """Raw code, to be loaded at guest physical `address` and entered there, or at `entry`, in `mode`."""
    from corral.boot.flat import Flat

    return Flat(ImageFile(path, "flat binary"), address, mode, address if entry is None else entry)


def _recognise(file: ImageFile, protocol: str | None) -> Kernel:
    # Each format is a module of its own, imported when a file is of that format: start-up counts.
    head = file.head(4096)
    if head.startswith(b"\x7fELF"):
        from corral.boot import elf

        executable = elf.parse(file.head(elf.HEAD), file.size, file.read)
        wants_pvh = protocol == "pvh" or (protocol is None and not executable.is_linux)
        if executable.pvh_entry is not None and wants_pvh:
            from corral.boot.pvh import Pvh

            return Pvh(file, executable)
        if protocol == "pvh":
            raise Flaw("has no PVH entry; build it with CONFIG_PVH, or boot it by the Linux protocol")
        from corral.boot.vmlinux import Vmlinux

        return Vmlinux(file, executable)
    from corral.boot import bzimage

    if bzimage.recognises(head):
        if protocol == "pvh":
            raise Flaw("is a bzImage, which has no PVH entry; use the vmlinux, or boot it by the Linux protocol")
        return bzimage.BzImage(file, head)
    from corral.boot.strangers import instead_of_kernel

    raise Flaw(instead_of_kernel(file))
