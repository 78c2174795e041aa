"""A guest as an ELF core file, as Linux's own crash dumps are (/proc/vmcore): what `crash` and `drgn -c` open.

    ELF header, program headers
    notes         NT_PRSTATUS of each vCPU, VMCOREINFO
    RAM           at a multiple of 4 KiB, one piece; pages of zeros are holes

A program header of each run of RAM has the kernel's direct map as its addresses, and one more has the kernel itself.
"""

from __future__ import annotations

import struct

from corral.introspect import vmcoreinfo
from corral.introspect.kernel import KERNEL_MAP
from corral.memory import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.introspect.kernel import GuestKernel
    from corral.introspect.subject import Values

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_CORE, _X86_64, _VERSION = 4, 62, 1
_LOAD, _NOTES = 1, 4
_ALL = 7  # read, write, execute
_PRSTATUS = 1
_REGISTERS_AT, _STATUS_SIZE = 112, 336  # struct elf_prstatus of x86-64
_REGISTERS = (  # struct user_regs_struct
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)


def head(
    vcpus: Sequence[Values],
    regions: Sequence[tuple[int, int]],
    kernel: GuestKernel | None,
    ram: tuple[int, int] | None = None,
) -> bytes:
    """All that is before the RAM, a multiple of 4 KiB; its length depends on the numbers of vCPUs and of regions, and
    on VMCOREINFO. `kernel` None: it is not Linux, and the file has no VMCOREINFO. `ram`: (gpa, length) of all that the
    file will have; else the regions."""
    notes = b"".join(_note(b"CORE", _PRSTATUS, _status(number, one)) for number, one in enumerate(vcpus))
    if kernel:
        notes += _note(b"VMCOREINFO", 0, vmcoreinfo.text(kernel))
    loads = _loads(regions, kernel) if ram is None else [(0, ram[0], *ram)]
    notes_at = _HEADER.size + _SEGMENT.size * (1 + len(loads))
    at = -(-(notes_at + len(notes)) // PAGE) * PAGE
    header = _HEADER.pack(
        *(_IDENT, _CORE, _X86_64, _VERSION, 0, _HEADER.size, 0, 0),
        *(_HEADER.size, _SEGMENT.size, 1 + len(loads), 0, 0, 0),
    )
    segments = _SEGMENT.pack(_NOTES, 0, notes_at, 0, 0, len(notes), len(notes), 4)
    for offset, address, gpa, length in loads:
        segments += _SEGMENT.pack(_LOAD, _ALL, at + offset, address, gpa, length, length, PAGE)
    return (header + segments + notes).ljust(at, b"\0")


def _loads(regions: Sequence[tuple[int, int]], kernel: GuestKernel | None) -> list[tuple[int, int, int, int]]:
    """(offset in the RAM, linear address, gpa, length) of each."""
    found, offset = [], 0
    if kernel:
        start, end = kernel.symbol("_text"), kernel.symbol("_end")
        gpa = start - KERNEL_MAP + kernel.phys_base
        length = -(-(end - start) // PAGE) * PAGE
        at = 0
        for region, size in regions:
            if region <= gpa and gpa + length <= region + size:
                found.append((at + gpa - region, start, gpa, length))
            at += size
    for gpa, length in regions:
        found.append((offset, (kernel.page_offset if kernel else 0) + gpa, gpa, length))
        offset += length
    return found


def _note(name: bytes, kind: int, content: bytes) -> bytes:
    name += b"\0"
    padded = (_aligned(name), _aligned(content))
    return _NOTE.pack(len(name), len(content), kind) + padded[0] + padded[1]


def _aligned(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")


def _status(number: int, vcpu: Values) -> bytes:
    """A struct elf_prstatus. Its process is the vCPU's number from 1 on, as in QEMU's: drgn looks for that."""
    registers = struct.pack("<27Q", *(vcpu.get(name, 0) & (1 << 64) - 1 for name in _REGISTERS))
    before = bytes(32) + struct.pack("<I", number + 1)
    return (before.ljust(_REGISTERS_AT, b"\0") + registers).ljust(_STATUS_SIZE, b"\0")


def is_one(data: bytes) -> bool:
    """Whether a file that begins like that is a core file of ELF."""
    return len(data) >= _HEADER.size and data[:4] == _IDENT[:4] and _HEADER.unpack_from(data)[1] == _CORE
