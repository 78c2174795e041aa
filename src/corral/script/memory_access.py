"""A guest's memory by address: `vm.phys[gpa]` and, by the page tables of a vCPU, `vm.mem[gva]`.

vm.phys[0x7000:0x8000]                  bytes; assign bytes to write
vm.mem[rsp].u64                         an integer: u8, u16, u32, u64, i8, i16, i32, i64; little-endian, assignable
vm.mem[gdt].struct("<HQ")               a tuple; .pack("<HQ", ...) writes
vm.mem[name].string()                   up to a NUL
vm.phys[0x100000].array("<u4", 64)      a numpy view of the guest's memory itself
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import page_walk
from corral.errors import ConfigError, HostError
from corral.memory import PAGE, GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corral.arch.x86_64.page_walk import WalkStep
    from corral.memory import GuestMemory
    from corral.script.register_access import Registers

    Bytes = bytes  # Place has a method with that name

_LONGEST_STRING = 4096
_WINDOW = 1 << 20  # bytes that search() looks at at once


class Space:
    """An address space. Raises GuestMemoryError for an address that is not RAM, and then writes nothing; ClosedError
    when the machine is closed."""

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory

    def __repr__(self) -> str:
        return f"<{type(self).__name__} addresses of {self._memory!r}>"

    def locate(self, address: int) -> int:
        """The guest physical address."""
        raise NotImplementedError

    def pieces(self, address: int, length: int) -> list[tuple[int, int]]:
        """(gpa, length) of each physically contiguous piece."""
        raise NotImplementedError

    def beyond(self, address: int) -> int:
        """Where there may be RAM again, after an address that is not."""
        return address + PAGE - address % PAGE

    def read(self, address: int, length: int) -> bytes:
        return b"".join(self._memory.read(gpa, size) for gpa, size in self.pieces(address, length))

    def read_some(self, address: int, length: int) -> bytes:
        """As much as there is without a gap, b"" when there is nothing."""
        data = b""
        while len(data) < length:
            at = address + len(data)
            try:
                data += self.read(at, min(length - len(data), PAGE - at % PAGE))
            except GuestMemoryError:
                break
        return data

    def write(self, address: int, data: bytes) -> None:
        done = 0
        for gpa, size in self.pieces(address, len(data)):
            self._memory.write(gpa, data[done : done + size])
            done += size

    def search(self, pattern: bytes, start: int, end: int) -> Iterator[int]:
        """Addresses in [start, end) at which the pattern begins; what is not RAM is passed over."""
        if not pattern:
            raise ConfigError("an empty pattern is everywhere; give some bytes")
        kept, at = b"", start  # `kept` ends at `at`
        while at < end:
            size = min(_WINDOW - at % PAGE, end - at)
            try:
                data = kept + self.read(at, size)
            except GuestMemoryError:
                size = min(PAGE - at % PAGE, end - at)
                try:
                    data = kept + self.read(at, size)
                except GuestMemoryError:
                    kept, at = b"", self.beyond(at)
                    continue
            first = at - len(kept)
            found = data.find(pattern)
            while found >= 0:
                yield first + found
                found = data.find(pattern, found + 1)
            kept, at = data[len(data) - len(pattern) + 1 :] if len(pattern) > 1 else b"", at + size

    def array(self, address: int, dtype: Any, count: int) -> Any:
        """A numpy array over the guest's memory: what is written to it the guest sees. It may outlive the machine."""
        try:
            import numpy
        except ImportError:
            raise HostError("array() needs numpy; get it: pip install numpy") from None
        length = numpy.dtype(dtype).itemsize * count
        pieces = self.pieces(address, length)
        gpa, at = pieces[0][0] if pieces else 0, 0
        for piece, size in pieces:
            if piece != gpa + at:
                raise ConfigError(f"{address:#x} is not contiguous in guest memory for {length} bytes; read() copies")
            at += size
        return numpy.frombuffer(self._memory.view(gpa, length), dtype=dtype, count=count)

    def __getitem__(self, where: int | slice) -> Any:
        """A Place at an address, or bytes of a slice."""
        if isinstance(where, slice):
            start, length = _bounds(where)
            return self.read(start, length)
        return MemoryPlace(self, where)

    def __setitem__(self, where: int | slice, data: bytes) -> None:
        """From a slice's start, or an address, on. Raises ConfigError when the lengths differ."""
        if isinstance(where, slice):
            start, length = _bounds(where)
            if length != len(data):
                raise ConfigError(f"{len(data)} bytes for a range of {length}")
            where = start
        self.write(where, data)


class Physical(Space):
    """By guest physical address."""

    def locate(self, address: int) -> int:
        self._memory.offset(address, 1)
        return address

    def pieces(self, address: int, length: int) -> list[tuple[int, int]]:
        self._memory.offset(address, length)
        return [(address, length)]

    def beyond(self, address: int) -> int:
        return min((start for start, _ in self._memory.regions if start > address), default=1 << 64)


class Linear(Space):
    """By linear address, of a vCPU that is paused or over. Before paging is on, that is the physical one."""

    def __init__(self, memory: GuestMemory, registers: Registers) -> None:
        super().__init__(memory)
        self._registers = registers

    def translate(self, address: int) -> int | None:
        """The guest physical address; None where there is no RAM."""
        return page_walk.translate(self._memory, self._registers.sregs(), address)

    def walk(self, address: int) -> list[WalkStep]:
        """The entries of the page tables, from the top, as far as they lead."""
        return list(page_walk.steps(self._memory, self._registers.sregs(), address))

    def locate(self, address: int) -> int:
        return self.pieces(address, 1)[0][0]

    def pieces(self, address: int, length: int) -> list[tuple[int, int]]:
        sregs = self._registers.sregs()
        pieces = []
        while length > 0:
            size = min(length, PAGE - address % PAGE)
            gpa = page_walk.translate(self._memory, sregs, address)
            if gpa is None:
                raise GuestMemoryError(f"linear address {address:#x} is not mapped to the guest's RAM")
            pieces.append((gpa, size))
            address, length = address + size, length - size
        return pieces


class _Integer:
    def __init__(self, form: str) -> None:
        self._form = struct.Struct(form)

    def __get__(self, place: MemoryPlace, owner: object = None) -> int:
        return int(self._form.unpack(place.bytes(self._form.size))[0])

    def __set__(self, place: MemoryPlace, value: int) -> None:
        try:
            data = self._form.pack(value)
        except struct.error:
            raise ConfigError(f"{value:#x} does not fit into {self._form.size} bytes") from None
        place.space.write(place.address, data)


class MemoryPlace:
    """An address of a space."""

    u8, u16, u32, u64 = _Integer("<B"), _Integer("<H"), _Integer("<I"), _Integer("<Q")
    i8, i16, i32, i64 = _Integer("<b"), _Integer("<h"), _Integer("<i"), _Integer("<q")

    def __init__(self, space: Space, address: int) -> None:
        self.space = space
        self.address = address

    def __repr__(self) -> str:
        return f"<{type(self.space).__name__} address {self.address:#x}>"

    def bytes(self, length: int) -> Bytes:
        return self.space.read(self.address, length)

    def struct(self, form: str) -> tuple[Any, ...]:
        """As struct.unpack()."""
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def pack(self, form: str, *values: object) -> None:
        self.space.write(self.address, struct.pack(form, *values))

    def string(self, longest: int = _LONGEST_STRING) -> Bytes:
        """Up to a NUL, the end of what is mapped, or `longest` bytes."""
        found = b""
        while len(found) < longest:
            at = self.address + len(found)
            try:
                piece = self.space.read(at, min(PAGE - at % PAGE, longest - len(found)))
            except GuestMemoryError:
                if not found:
                    raise
                break
            text, nul, _ = piece.partition(b"\0")
            found += text
            if nul:
                break
        return found

    def array(self, dtype: Any, count: int) -> Any:
        return self.space.array(self.address, dtype, count)


def _bounds(where: slice) -> tuple[int, int]:
    if where.start is None or where.stop is None or where.step not in (None, 1) or where.stop < where.start:
        raise ConfigError("a range of memory is [first:end], both given")
    return where.start, where.stop - where.start
