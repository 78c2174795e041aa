"""The kernel's table of instructions that may fault, with those of the injected code among them.

It is sorted, and its ends are in the kernel's code, so that it cannot grow. Entries of code that never runs in a KVM
guest without encryption make room: Xen's, Hyper-V's, and that for AMD's SEV.
Source: asm/extable.h: each entry is three words, where the first two are offsets from themselves.
"""

from __future__ import annotations

import struct
from itertools import count

from corral.injection.unfit import Check, UnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.boot.pieces import Piece
    from corral.injection.linked import LinkedKernel

Row = tuple[int, int, int]  # instruction, where to go on, how

_ENTRY = struct.Struct("<iii")
MOST = 16  # that the injected code adds; it has 12
_UNUSED = ("xen", "hv_", "sev_", "__sev_", "snp_")


def rows(address: int, table: bytes) -> list[Row]:
    """What is in a table that lies at `address`."""
    found = []
    for offset in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        instruction, fixup, how = _ENTRY.unpack_from(table, offset)
        found.append((address + offset + instruction, address + offset + 4 + fixup, how))
    return found


def room(kernel: LinkedKernel) -> list[Row]:
    """The entries of its table that can go. Raises UnfitError where they are too few."""
    own = _kernel_rows(kernel)
    if own != sorted(own, key=lambda row: row[0]):
        raise UnfitError(Check.EXCEPTIONS, "its table of exceptions is not sorted")
    unused = [row for row in own if kernel.name(row[0]).startswith(_UNUSED)]
    if len(unused) < MOST:
        raise UnfitError(Check.EXCEPTIONS, f"its table of exceptions has room for {len(unused)} more, not for {MOST}")
    return unused


def merged(kernel: LinkedKernel, added: list[Row]) -> Piece:
    """The kernel's table with `added` in it, MOST rows at most. Raises UnfitError where there is no room for them."""
    start, own = kernel.address("__start___ex_table"), _kernel_rows(kernel)
    assert len(added) <= MOST
    gone = set(room(kernel)[: len(added)])
    new = sorted([row for row in own if row not in gone] + added, key=lambda row: row[0])
    table = [
        _ENTRY.pack(instruction - at, fixup - at - 4, how)
        for at, (instruction, fixup, how) in zip(count(start, _ENTRY.size), new, strict=False)
    ]
    return kernel.replaced(start, b"".join(table))


def _kernel_rows(kernel: LinkedKernel) -> list[Row]:
    start, end = kernel.address("__start___ex_table"), kernel.address("__stop___ex_table")
    if (end - start) % _ENTRY.size or end < start:
        raise UnfitError(Check.EXCEPTIONS, "its table of exceptions is of a kind that is not known")
    return rows(start, kernel.read(start, end - start))
