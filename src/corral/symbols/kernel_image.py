"""A kernel file as it will lie in memory, without a guest: a vmlinux, a bzImage, whatever open_kernel() takes."""

from __future__ import annotations

import os

from corral import boot
from corral.arch.x86_64 import layout
from corral.boot.bzimage import BzImage
from corral.boot.multiboot import MultibootKernel
from corral.errors import ConfigError
from corral.files import elf, magic
from corral.files.file import Flaw, ImageFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.files.elf import Segment


class KernelImage:
    """A context manager. Raises BootError for what is no kernel, HostError when a library to unpack it is missing."""

    def __init__(self, path: str) -> None:
        self.file, self.elf = _image(path)
        head = self.file.head(5)
        self.bits = 32 * head[4] if head.startswith(magic.ELF) else self.elf.bits

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes at a linear address as the kernel is linked, or a physical one; fewer at the end of what
        the file has. Raises ConfigError when it has nothing there."""
        for segment in self.elf.segments:
            # Linux links the areas of its CPUs at 0, and loads them elsewhere.
            linked = (segment.virtual,) if segment.virtual >= layout.HIGH_MEMORY else ()
            for start in (*linked, segment.physical):
                if start <= address < start + segment.file_size:
                    offset = address - start
                    return self.file.read(segment.offset + offset, min(length, segment.file_size - offset))
        raise ConfigError(
            f"{address:#x} is not in the kernel's file; give an address that it is linked at, or a symbol"
        )

    def content(self, segment: Segment) -> bytearray:
        content = bytearray(segment.file_size)
        self.file.read_into(segment.offset, memoryview(content))
        return content

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> KernelImage:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _image(path: str) -> tuple[ImageFile, elf.Elf]:
    """The file that has the segments, and those."""
    file = ImageFile(path, "kernel")
    try:
        if file.head(4) == magic.ELF:
            # Also of one that looks like a program: by --protocol it is a kernel all the same.
            return file, elf.parse(file.head(elf.HEAD), file.size, file.read)
    except Flaw:  # a Multiboot header may say where it belongs
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    with boot.open_kernel(path) as kernel:
        if isinstance(kernel, MultibootKernel):
            return ImageFile(path, "kernel"), kernel.image
        file = _unpacked(kernel) if isinstance(kernel, BzImage) else ImageFile(path, "kernel")
    try:
        return file, elf.parse(file.head(elf.HEAD), file.size, file.read)
    except Flaw as flaw:
        file.close()
        raise file.error(str(flaw)) from None


def _unpacked(kernel: BzImage) -> ImageFile:
    """An ELF file in memory with what is packed in the kernel's."""
    descriptor = os.memfd_create("vmlinux", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            kernel.write_vmlinux(file)
        unpacked = ImageFile(f"/proc/self/fd/{descriptor}", "kernel")
    finally:
        os.close(descriptor)
    unpacked.path = kernel.path
    return unpacked


def reader(path: str) -> Callable[[int, int], bytes]:
    """Gives up to so many bytes at an address as the kernel at `path` is linked; opens it for each."""

    def read(address: int, length: int) -> bytes:
        with KernelImage(path) as image:
            return image.read(address, length)

    return read
