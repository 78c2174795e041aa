"""ELF executables as boot loaders see them: an entry, segments with physical addresses, the PVH note.

Source: System V ABI, "Object Files" and "Program Loading". Every number in the file is hostile: all of them
are checked here, before anything is placed; what remains for the loader is whether the segments fit into the
RAM.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Read = Callable[[int, int], bytes]

# The head of a file must hold the ELF header and the program headers. Linux has 5 of them, right behind the
# header.
HEAD = 64 << 10
MAX_PROGRAM_HEADERS = 128
MAX_NOTES = 64 << 10
# More than any kernel has, and read in well under a second.
MAX_LOADED = 512 << 20

EM_386 = 3
EM_X86_64 = 62
_MACHINES = {
    2: "SPARC",
    8: "MIPS",
    20: "PowerPC",
    21: "64-bit PowerPC",
    22: "S/390",
    40: "32-bit ARM",
    43: "64-bit SPARC",
    183: "ARM64",
    243: "RISC-V",
    258: "LoongArch",
}
_CLASS32, _CLASS64 = 1, 2
_LITTLE_ENDIAN, _BIG_ENDIAN = 1, 2
_ET_REL, _ET_EXEC, _ET_DYN, _ET_CORE = 1, 2, 3, 4
_PT_LOAD, _PT_INTERP, _PT_NOTE, _PT_TLS = 1, 3, 4, 7

_HEADER64 = struct.Struct("<HHIQQQIHHHHHH")
_HEADER32 = struct.Struct("<HHIIIIIHHHHHH")
_SEGMENT64 = struct.Struct("<IIQQQQQQ")
_SEGMENT32 = struct.Struct("<IIIIIIII")
_IDENT = 16
_NOTE = struct.Struct("<III")

_XEN = b"Xen\0"
_XEN_PHYS32_ENTRY = 18

# Where 64-bit Linux is linked (Documentation/arch/x86/x86_64/mm.rst, "kernel text mapping").
_LINUX_TEXT = 0xFFFFFFFF80000000


@record(frozen=True)
class Segment:
    """A PT_LOAD program header that occupies memory."""

    offset: int
    virtual: int
    physical: int
    file_size: int
    memory_size: int

    @property
    def end(self) -> int:
        return self.physical + self.memory_size


@record(frozen=True)
class Elf:
    """A validated executable: its segments lie in the file and do not overlap. `is_program`: an interpreter or
    thread-local storage makes it look like one for user space; unikernels do so too. `is_dynamic`: it names an
    interpreter, which loads its libraries."""

    bits: int
    entry: int  # guest physical
    segments: tuple[Segment, ...]  # ascending by physical address
    pvh_entry: int | None
    is_linux: bool
    is_program: bool = False
    is_dynamic: bool = False

    @property
    def code(self) -> tuple[tuple[int, int, int], ...]:
        """What of the file is in guest memory: (guest physical, size, linear)."""
        return tuple((segment.physical, segment.file_size, segment.virtual) for segment in self.segments)

    @property
    def start(self) -> int:
        return self.segments[0].physical

    @property
    def end(self) -> int:
        return self.segments[-1].end


@record(frozen=True)
class Note:
    """`size` is what its header tells of the value, which may be cut off."""

    name: bytes
    type: int
    size: int
    value: bytes


def parse(head: bytes, size: int, read: Read | None) -> Elf:
    """Parse and validate an executable of `size` bytes whose first bytes are `head` (HEAD of them, or all).

    `read(offset, length)` fetches the notes; None where the file is a stream: then there is no PVH entry.
    Raises Flaw.
    """
    bits = _identify(head)
    entry, headers = _read_headers(head, size, bits)
    types = {type_ for type_, _ in headers}
    segments = [segment for type_, segment in headers if type_ == _PT_LOAD and segment.memory_size]
    segments.sort(key=lambda segment: segment.physical)
    described = [_notes_of(one, size, read) for type_, one in headers if type_ == _PT_NOTE] if read else []
    pvh_entry = next((e for notes in described if (e := _find_pvh_entry(notes)) is not None), None)
    check_segments(segments, size)
    if pvh_entry is not None:
        _require_entry(segments, pvh_entry, "PVH entry point")
    physical, is_linux = _physical_entry(segments, entry, pvh_entry)
    is_program, is_dynamic = not types.isdisjoint((_PT_INTERP, _PT_TLS)), _PT_INTERP in types
    return Elf(bits, physical, tuple(segments), pvh_entry, is_linux, is_program, is_dynamic)


def require_kernel(elf: Elf) -> None:
    """Flaw for what looks like a program. For files that nothing else says to be a kernel."""
    if elf.is_program:
        raise Flaw("is a program for user space, not a kernel; name a vmlinux or a bzImage")


def require_free(segments: Sequence[Segment], taken: Sequence[tuple[int, int]]) -> None:
    """Flaw unless every segment is clear of the `taken` ranges (start, end), which are below 1 MiB."""
    for segment in segments:
        for start, end in taken:
            if segment.physical < end and start < segment.end:
                raise Flaw(
                    f"has a segment for {segment.physical:#x}, below 1 MiB, where the boot structures are "
                    f"({start:#x} to {end:#x}); link it for 1 MiB or above"
                )


def _identify(head: bytes) -> int:
    """The bits of an executable that can be one for x86."""
    if len(head) < _IDENT + 4:
        raise Flaw("is cut off within its ELF header; copy or build it again")
    class_, order = head[4], head[5]
    if order not in (_LITTLE_ENDIAN, _BIG_ENDIAN) or class_ not in (_CLASS32, _CLASS64):
        raise Flaw("has a damaged ELF header; copy or build it again")
    machine = int.from_bytes(head[18:20], "little" if order == _LITTLE_ENDIAN else "big")
    name = _MACHINES.get(machine)
    if name or order == _BIG_ENDIAN:
        raise Flaw(f"is built for {name or 'a big-endian machine'}; Corral runs x86-64, use such a kernel")
    if (class_, machine) not in ((_CLASS64, EM_X86_64), (_CLASS32, EM_386)):
        raise Flaw(f"is built for ELF machine {machine}; Corral runs x86-64, use such a kernel")
    return 64 if class_ == _CLASS64 else 32


def _require_executable(kind: int) -> None:
    if kind == _ET_REL:
        raise Flaw("is an object file or a kernel module; name the linked kernel: vmlinux or bzImage")
    if kind == _ET_CORE:
        raise Flaw("is a core dump; name a vmlinux or a bzImage")
    if kind not in (_ET_EXEC, _ET_DYN):
        raise Flaw(f"is an ELF file of type {kind}, not an executable; name a vmlinux or a bzImage")


def _read_headers(head: bytes, size: int, bits: int) -> tuple[int, list[tuple[int, Segment]]]:
    """The entry, and each program header with its type."""
    header, program_header = (_HEADER64, _SEGMENT64) if bits == 64 else (_HEADER32, _SEGMENT32)
    if len(head) < _IDENT + header.size:
        raise Flaw("is cut off within its ELF header; copy or build it again")
    kind, _, _, entry, table, _, _, _, entry_size, count, *_ = header.unpack_from(head, _IDENT)
    _require_executable(kind)
    if count > MAX_PROGRAM_HEADERS:
        raise Flaw(f"claims {count} program headers, a kernel has fewer than ten; build it again")
    if entry_size != program_header.size and count:
        raise Flaw(f"has program headers of {entry_size} bytes, not {program_header.size}; build it again")
    end = table + count * entry_size
    if end > len(head):
        where = "behind its end" if end > size else "too far from its start"
        raise Flaw(f"has its program headers {where}; copy or build it again")
    return entry, [_program_header(head, offset, program_header) for offset in range(table, end, entry_size or 1)]


def _program_header(head: bytes, offset: int, codec: struct.Struct) -> tuple[int, Segment]:
    if codec is _SEGMENT64:
        type_, _, start, virtual, physical, file_size, memory_size, _ = codec.unpack_from(head, offset)
    else:
        type_, start, virtual, physical, file_size, memory_size, _, _ = codec.unpack_from(head, offset)
    return type_, Segment(start, virtual, physical, file_size, memory_size)


def check_segments(segments: Sequence[Segment], size: int) -> None:
    """Everything that can be said about the segments without the guest's RAM."""
    if not segments:
        raise Flaw("has no loadable segment; name a linked kernel: vmlinux or bzImage")
    for segment in segments:
        where = f"has a segment for {segment.physical:#x}"
        if segment.file_size > segment.memory_size:
            raise Flaw(f"{where} with more bytes in the file than in memory; build it again")
        if segment.offset + segment.file_size > size:
            raise Flaw(f"{where} that ends behind the end of the file; it is cut off, copy it again")
        if segment.end > 1 << 64:
            raise Flaw(f"{where} that wraps around the end of the address space; build it again")
    for low, high in pairwise(segments):
        if low.end > high.physical:
            raise Flaw(f"has segments that overlap at {high.physical:#x}; build it again")
    if sum(segment.file_size for segment in segments) > MAX_LOADED:
        raise Flaw(f"has more than {MAX_LOADED >> 20} MiB to load; that is no kernel, build it again")


def _physical_entry(segments: Sequence[Segment], entry: int, pvh_entry: int | None) -> tuple[int, bool]:
    """(guest physical entry, whether this is Linux), from an entry given as physical or virtual address.

    Linux has its text in the upper 2 GiB and yet a physical entry; what else has a PVH entry wants to be
    entered there.
    """
    for segment in segments:
        if segment.physical <= entry < segment.end:
            _require_entry(segments, entry, "entry point")
            return entry, any(s.virtual >= _LINUX_TEXT for s in segments)
    for segment in segments:
        if segment.virtual <= entry < segment.virtual + segment.memory_size:
            physical = entry - segment.virtual + segment.physical
            _require_entry(segments, physical, "entry point")
            return physical, False
    if pvh_entry is not None:
        return pvh_entry, False
    raise Flaw(f"has its entry point {entry:#x} in no segment; build it again")


def _require_entry(segments: Sequence[Segment], entry: int, name: str) -> None:
    if entry >= 1 << 32:
        raise Flaw(f"has its {name} {entry:#x} above 4 GiB; link it for an address below")
    if not any(segment.physical <= entry < segment.end for segment in segments):
        raise Flaw(f"has its {name} {entry:#x} in no segment; build it again")


def notes(head: bytes, size: int, read: Read) -> Iterator[Note]:
    """What the notes of an executable say; parse() has the arguments. Raises Flaw."""
    _, headers = _read_headers(head, size, _identify(head))
    for type_, segment in headers:
        if type_ == _PT_NOTE:
            yield from _notes_of(segment, size, read)


def _notes_of(segment: Segment, size: int, read: Read) -> Iterator[Note]:
    if segment.offset + segment.file_size > size:
        return
    data = read(segment.offset, min(segment.file_size, MAX_NOTES))
    position = 0
    while position + _NOTE.size <= len(data):
        name_size, value_size, type_ = _NOTE.unpack_from(data, position)
        name = position + _NOTE.size
        value = name + (name_size + 3 & ~3)
        position = value + (value_size + 3 & ~3)
        yield Note(data[name : name + name_size], type_, value_size, data[value : value + value_size])


def _find_pvh_entry(notes: Iterable[Note]) -> int | None:
    """The entry in XEN_ELFNOTE_PHYS32_ENTRY, if one of these is that note."""
    for note in notes:
        if note.type == _XEN_PHYS32_ENTRY and note.size in (4, 8) and note.name == _XEN:
            return int.from_bytes(note.value, "little") if len(note.value) == note.size else None
    return None
