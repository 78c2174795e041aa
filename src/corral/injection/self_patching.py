"""Where a kernel rewrites its own code: instructions for the CPU that it finds, calls, returns, NOPs for tracing.

Each place is in a table of the kernel's. What is injected must be in none of them, or the kernel would write into it.
Sources: asm/alternative.h, asm/paravirt_types.h, linux/jump_label.h, linux/static_call_types.h, vmlinux.lds.h.
"""

from __future__ import annotations

import struct

from corral.injection.unfit import Check, UnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.boot.pieces import Piece
    from corral.injection.linked import LinkedKernel

Range = tuple[int, int]  # start, end

_LONGEST = 6  # bytes of a call, a jump or a return with what its table does not tell
# Symbols of a table's two ends, and the size of an entry, which begins with its place as an offset from itself.
_RELATIVE = (
    ("__retpoline_sites", "__retpoline_sites_end", 4),
    ("__return_sites", "__return_sites_end", 4),
    ("__ibt_endbr_seal", "__ibt_endbr_seal_end", 4),
    ("__call_sites", "__call_sites_end", 4),
    ("__smp_locks", "__smp_locks_end", 4),
    ("__start___jump_table", "__stop___jump_table", 16),
    ("__start_static_call_sites", "__stop_static_call_sites", 8),
)
# The same with an address, of 8 bytes.
_ABSOLUTE = (("__start_mcount_loc", "__stop_mcount_loc", 8), ("__parainstructions", "__parainstructions_end", 16))
# Entries of .altinstructions: their size, and where in them is the length of the instructions. Since 6.3 with flags.
_ALTERNATIVES = ((14, 12), (12, 10))


def require_untouched(kernel: LinkedKernel, pieces: list[Piece]) -> None:
    """Raises UnfitError where the kernel writes into one of the pieces."""
    text = kernel.address("_text")
    shift = text - kernel.physical(text)
    ranges = [(piece.address + shift, piece.address + shift + len(piece.new)) for piece in pieces]
    for start, end in _patched_ranges(kernel):
        for low, high in ranges:
            if start < high and low < end:
                raise UnfitError(Check.REWRITTEN, f"it rewrites its code at {start:#x} itself")


def _patched_ranges(kernel: LinkedKernel) -> Iterator[Range]:
    yield from _alternatives(kernel)
    for first, last, size in _RELATIVE:
        for at, table in kernel.between(first, last):
            for offset in range(0, len(table) - size + 1, size):
                place = at + offset + struct.unpack_from("<i", table, offset)[0]
                yield place, place + _LONGEST
    for first, last, size in _ABSOLUTE:
        for _, table in kernel.between(first, last):
            for offset in range(0, len(table) - size + 1, size):
                (place,) = struct.unpack_from("<Q", table, offset)
                yield place, place + _LONGEST


def _alternatives(kernel: LinkedKernel) -> Iterator[Range]:
    low, high = kernel.address("_text"), kernel.address("_end")
    for at, table in kernel.between("__alt_instructions", "__alt_instructions_end"):
        for size, length_at in _ALTERNATIVES:
            places = [
                (at + offset + struct.unpack_from("<i", table, offset)[0], table[offset + length_at])
                for offset in range(0, len(table) - size + 1, size)
            ]
            if len(table) % size == 0 and all(low <= place < high for place, _ in places):
                yield from ((place, place + length) for place, length in places)
                return
        raise UnfitError(Check.REWRITTEN, "its table of alternative instructions is of a kind that is not known")
