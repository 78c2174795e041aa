"""Guest RAM in files: mapped from a chain of them, and saved to one (csrc/host/ram_file.h, ram_save.h)."""

from __future__ import annotations

import errno
import os

from corral.memory import PAGE
from corral.native import check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.memory import GuestMemory

PIECE = 64 << 20  # bytes of RAM after which signals are looked for
Layer = tuple[int, int, bytes | None]  # descriptor, offset of the first page, bits of the pages that are there


class Chain:
    """Files with pages of the same RAM, the one on top first; the last has all pages, and None for bits. The
    descriptors stay the caller's."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._bits = [ffi.NULL if bits is None else ffi.from_buffer(bits) for _, _, bits in layers]
        self.native = ffi.new("struct corral_ram_layer[]", len(layers))
        for one, (fd, offset, _), own in zip(self.native, layers, self._bits, strict=True):
            one.fd, one.offset, one.own = fd, offset, ffi.cast("uint64_t *", own)

    def map(self, memory: GuestMemory) -> None:
        """Puts its pages into a machine's memory: what the guest writes there stays out of the files. Raises
        KvmError."""
        host = ffi.cast("void *", memory.host_address)
        check("mmap", lib.corral_ram_map(host, memory.size, self.native, len(self.native)))
        memory.mapped = self


def extents(fd: int, at: int, memory: int) -> list[tuple[int, int]]:
    """(start, end) of `memory` bytes of RAM in a file, from `at` on there, where it has no holes. Raises OSError."""
    place, end, found = at, at + memory, []
    while place < end:
        try:
            place = os.lseek(fd, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing follows
                break
            raise
        hole = min(os.lseek(fd, place, os.SEEK_HOLE), end)
        if place < end:
            found.append((place - at, hole - at))
        place = hole
    return found


def map_size(memory: int) -> int:
    """Bytes of a bit for each page of `memory` bytes."""
    return -(-memory // (PAGE * 64)) * 8


class RamJob:
    """RAM that is to be saved to `fd`, at `at` and on. With a parent, pages that are the same there are left out, and a
    bit for each that is not goes to `own_at`."""

    def __init__(self, fd: int, at: int, memory: GuestMemory, parent: Chain | None = None, own_at: int = 0) -> None:
        mapped = memory.mapped
        assert mapped is None or isinstance(mapped, Chain)
        self._kept, self._size = (mapped, parent), memory.size
        self.native = ffi.new(
            "struct corral_ram_job *",
            {
                "fd": fd,
                "offset": at,
                "at": ffi.cast("void *", memory.host_address),
                "length": memory.size,
                "mapped": mapped.native if mapped else ffi.NULL,
                "n_mapped": len(mapped.native) if mapped else 0,
                "parent": parent.native if parent else ffi.NULL,
                "n_parent": len(parent.native) if parent else 0,
                "own_at": own_at,
            },
        )

    def save(self) -> int:
        """Returns how many bytes were written. Raises OSError."""
        pieces = range(0, self._size, PIECE)
        return sum(_told(lib.corral_ram_save(self.native, at, min(PIECE, self._size - at))) for at in pieces)

    def save_behind(self, unfinished: str, folder: str) -> None:
        """In a process that outlives this one, and renames the folder then. Raises OSError."""
        _told(lib.corral_ram_save_behind(self.native, os.fsencode(unfinished), os.fsencode(folder)))


class Beside:
    """A job that another process does, with the RAM as it is at this moment. A context manager, which ends it. Raises
    OSError."""

    def __init__(self, job: RamJob) -> None:
        self._result, tell = os.pipe()
        try:
            self._pid = _told(lib.corral_ram_save_beside(job.native, tell))
        except BaseException:
            os.close(self._result)
            raise
        finally:
            os.close(tell)

    def wait(self) -> int:
        """Returns how many bytes were written. Raises OSError."""
        told = os.read(self._result, 8)
        if len(told) < 8:
            raise OSError(0, "the process that wrote it was killed")
        return _told(int.from_bytes(told, "little", signed=True))

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *exception: object) -> None:
        import signal  # it takes 4 ms, and a start from the boot cache needs none

        os.close(self._result)
        try:
            os.kill(self._pid, signal.SIGKILL)  # it is done, or is not wanted any more
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):  # the program waits for all of its children itself
            pass


def _told(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)
