"""Guest RAM: one memfd, one mapping, one checked way in."""

from __future__ import annotations

import mmap
import os

from corral.arch.x86_64 import layout
from corral.errors import ConfigError, CorralError, HostError
from corral.native import ffi

PAGE = 4096
SMALLEST = 1 << 20  # what real mode can reach; less is no PC
LARGEST = 1 << 46  # a guest's physical addresses are at least 46 bits wide on what KVM runs on


class GuestMemoryError(CorralError):
    """An access to guest physical addresses that are not RAM."""

    exit_status = 4


class GuestMemory:
    """RAM of `size` bytes (a multiple of 4 KiB): [0, 3 GiB) and, for the rest, [4 GiB, ...).

    Pages cost host memory when they are first touched. Raises ConfigError for a size that no machine has,
    HostError when the host cannot map it.
    """

    def __init__(self, size: int) -> None:
        check_size(size)
        self.size = size
        self.low_end = min(size, layout.RAM_HOLE)
        high = size - self.low_end
        self.high_end = layout.RAM_HOLE_END + high if high else 0
        try:
            self.fd = os.memfd_create("corral-ram", os.MFD_CLOEXEC)
        except OSError as error:
            raise HostError(f"cannot make guest memory: {error.strerror}; see ulimit -n") from error
        try:
            os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, OverflowError) as error:
            os.close(self.fd)
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise HostError(
                f"cannot map {size >> 20} MiB of guest memory: {reason}; ask for less with --memory"
            ) from error
        self._view = memoryview(self._map)
        self._pointer = ffi.from_buffer(self._map)
        self.host_address = int(ffi.cast("uintptr_t", self._pointer))
        # What C sees of this object; a corral_vcpu keeps a pointer to it.
        self.native = ffi.new(
            "struct corral_ram *",
            {
                "host": ffi.cast("uint8_t *", self._pointer),
                "low_end": self.low_end,
                "high_end": self.high_end,
            },
        )

    def close(self) -> None:
        """Unmaps. Every view() must be released before, every vCPU closed."""
        ffi.release(self._pointer)
        self._view.release()
        self._map.close()
        os.close(self.fd)

    @property
    def regions(self) -> list[tuple[int, int]]:
        """(gpa, length) of each run of RAM, lowest first."""
        regions = [(0, self.low_end)]
        if self.high_end:
            regions.append((layout.RAM_HOLE_END, self.high_end - layout.RAM_HOLE_END))
        return regions

    def view(self, gpa: int, length: int) -> memoryview:
        """A writable view of [gpa, gpa + length). Raises GuestMemoryError when a byte of it is not RAM."""
        offset = self.offset(gpa, length)
        return self._view[offset : offset + length]

    def read(self, gpa: int, length: int) -> bytes:
        return bytes(self.view(gpa, length))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        self.view(gpa, len(data))[:] = data

    def offset(self, gpa: int, length: int) -> int:
        """Where [gpa, gpa + length) lies in the memfd. Raises GuestMemoryError when a byte of it is not RAM."""
        if length >= 0:
            if 0 <= gpa < self.low_end and length <= self.low_end - gpa:
                return gpa
            if layout.RAM_HOLE_END <= gpa < self.high_end and length <= self.high_end - gpa:
                return gpa - layout.RAM_HOLE_END + self.low_end
        raise GuestMemoryError(f"{length} bytes at guest physical address {gpa:#x} are not all RAM")


def check_size(size: int) -> None:
    """Raises ConfigError unless `size` bytes can be the RAM of a machine."""
    if size < SMALLEST:
        raise ConfigError(f"{size} bytes are too little guest memory; at least 1M, Linux wants 32M or more")
    if size > LARGEST:
        raise ConfigError(f"{size >> 30} GiB of guest memory are more than a guest can address; at most 64T")
    if size % PAGE:
        raise ConfigError(f"guest memory of {size} bytes is not a multiple of 4K")
