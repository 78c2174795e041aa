"""Guest RAM: one mapping, one checked way in."""

from __future__ import annotations

import errno
import mmap
import os

from corral.errors import DENIED, ClosedError, ConfigError, CorralError, HostError
from corral.native import ffi, lib

PAGE = 4096
HUGE_PAGE = 2 << 20
# RAM ends at 3 GiB at most and goes on at 4 GiB; devices live in between.
RAM_HOLE, RAM_HOLE_END = 3 << 30, 4 << 30
# Private and anonymous, and not a memfd: that is what hosts give huge pages to (shmem_enabled is "never" unless it
# was changed), and with small ones a guest takes ten times as many page faults in the host on its way up.
# No reserve: a guest may have more than the host has free, as long as it does not touch it.
_MAP_NORESERVE, _MAP_HUGETLB = 0x4000, 0x40000  # asm-generic/mman.h; Python's mmap has no names for them
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
_LESS = "ask for less with --memory"
SMALLEST = 1 << 20  # what real mode can reach; less is no PC
LARGEST = 1 << 46  # a guest's physical addresses are at least 46 bits wide on what KVM runs on


class GuestMemoryError(CorralError):
    """An access to guest physical addresses that are not RAM."""

    exit_status = 4


class GuestMemory:
    """RAM of `size` bytes (a multiple of 4 KiB): [0, 3 GiB) and, for the rest, [4 GiB, ...).

    Pages cost host memory when they are first touched; they are huge ones where the host has any to give. `page`: they
    are of this size, from the host's pool of huge pages. Raises ConfigError for a size that no machine has, HostError
    when the host cannot map it.
    """

    def __init__(self, size: int, page: int = 0) -> None:
        check_size(size)
        self.size = size
        self.mapped: object = None  # the files that are mapped there (snapshot/ram.py): untouched pages are theirs
        flags = _FLAGS if not page else (_FLAGS & ~_MAP_NORESERVE) | _MAP_HUGETLB | page.bit_length() - 1 << 26
        self.low_end = min(size, RAM_HOLE)
        high = size - self.low_end
        self.high_end = RAM_HOLE_END + high if high else 0
        try:
            self._map = mmap.mmap(-1, size + (0 if page else HUGE_PAGE), flags, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            kind = f" in pages of {page >> 20} MiB" if page else ""
            cure = "the pool has too few that are free: grep HugePages /proc/meminfo" if page else _LESS
            raise HostError(f"cannot map {size >> 20} MiB of guest memory{kind}: {reason}; {cure}") from error
        self._pointer = ffi.from_buffer(self._map)
        mapped_at = int(ffi.cast("uintptr_t", self._pointer))
        start = -mapped_at % HUGE_PAGE
        self.host_address = mapped_at + start
        self._view = memoryview(self._map)[start : start + size]
        if not page:
            _want_huge_pages(self._map, start, size)
        # What C sees of this object; a corral_vcpu keeps a pointer to it.
        self.native = ffi.new(
            "struct corral_ram *",
            {
                "host": ffi.cast("uint8_t *", self.host_address),
                "low_end": self.low_end,
                "high_end": self.high_end,
            },
        )

    def close(self) -> None:
        """Unmaps, after every vCPU is closed; when somebody holds a view() still, with the last of those."""
        ffi.release(self._pointer)
        self.native.low_end = self.native.high_end = 0  # for C there is no RAM any more
        self._view.release()
        try:
            self._map.close()
        except BufferError:
            pass

    def __repr__(self) -> str:
        regions = ", ".join(f"{gpa:#x}-{gpa + length:#x}" for gpa, length in self.regions)
        return f"<GuestMemory {regions}>"

    @property
    def regions(self) -> list[tuple[int, int]]:
        """(gpa, length) of each run of RAM, lowest first."""
        regions = [(0, self.low_end)]
        if self.high_end:
            regions.append((RAM_HOLE_END, self.high_end - RAM_HOLE_END))
        return regions

    def view(self, gpa: int, length: int) -> memoryview:
        """A writable view of [gpa, gpa + length). What is written there after the next checkpoint, or reset to one, is
        not known to those that follow. Raises GuestMemoryError when a byte of it is not RAM, ClosedError."""
        offset = self.offset(gpa, length)
        if self.native.touched:
            lib.corral_ram_touched(self.native, offset, length)
        try:
            return self._view[offset : offset + length]
        except ValueError:  # it was released
            raise ClosedError("this machine is closed") from None

    def read(self, gpa: int, length: int) -> bytes:
        return bytes(self.view(gpa, length))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        self.view(gpa, len(data))[:] = data

    def offset(self, gpa: int, length: int) -> int:
        """Where [gpa, gpa + length) lies in the mapping. Raises GuestMemoryError when a byte of it is not RAM."""
        if length >= 0:
            if 0 <= gpa < self.low_end and length <= self.low_end - gpa:
                return gpa
            if RAM_HOLE_END <= gpa < self.high_end and length <= self.high_end - gpa:
                return gpa - RAM_HOLE_END + self.low_end
        raise GuestMemoryError(f"{length} bytes at guest physical address {gpa:#x} are not all RAM")


def _want_huge_pages(mapping: mmap.mmap, start: int, size: int) -> None:
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE, start, size)
    except OSError as error:
        # A host kernel without transparent huge pages, or a policy: the guest is slower without, and runs.
        if error.errno not in (errno.EINVAL, *DENIED):
            raise


def check_size(size: int) -> None:
    """Raises ConfigError unless `size` bytes can be the RAM of a machine."""
    if size < SMALLEST:
        raise ConfigError(f"{size} bytes are too little guest memory; at least 1M, Linux wants 32M or more")
    if size > LARGEST:
        raise ConfigError(f"{size >> 30} GiB of guest memory are more than a guest can address; at most 64T")
    if size % PAGE:
        raise ConfigError(f"guest memory of {size} bytes is not a multiple of 4K")
