"""A kernel file as it will lie in memory, without a guest: a vmlinux, a bzImage, whatever open_kernel() takes."""

from __future__ import annotations

import os

from corral import boot
from corral.arch.x86_64 import layout
from corral.boot import elf
from corral.boot.bzimage import BzImage
from corral.boot.file import Flaw, ImageFile
from corral.errors import ConfigError


class KernelImage:
    """A context manager. Raises BootError for what is no kernel, HostError when a library to unpack it is missing."""

    def __init__(self, path: str) -> None:
        self.file = _open(path)
        try:
            self.elf = elf.parse(self.file.head(elf.HEAD), self.file.size, self.file.read)
        except Flaw as flaw:
            self.file.close()
            raise self.file.error(str(flaw)) from None

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes at a linear address as the kernel is linked, or a physical one; fewer at the end of what
        the file has. Raises ConfigError when it has nothing there."""
        for segment in self.elf.segments:
            for start in (segment.virtual, segment.physical):
                # Linux links the areas of its CPUs at 0.
                if layout.HIGH_MEMORY <= start <= address < start + segment.file_size:
                    offset = address - start
                    return self.file.read(segment.offset + offset, min(length, segment.file_size - offset))
        raise ConfigError(
            f"{address:#x} is not in the kernel's file; give an address that it is linked at, or a symbol"
        )

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> KernelImage:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _open(path: str) -> ImageFile:
    """The ELF file: the kernel's own, or one in memory with what is unpacked of it."""
    with boot.open_kernel(path) as kernel:
        if not isinstance(kernel, BzImage):
            return ImageFile(path, "kernel")
        descriptor = os.memfd_create("vmlinux", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                kernel.write_vmlinux(file)
            unpacked = ImageFile(f"/proc/self/fd/{descriptor}", "kernel")
        finally:
            os.close(descriptor)
        unpacked.path = path
        return unpacked
