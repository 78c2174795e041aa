"""Which bytes of a kernel are replaced, and by what.

Each place is found by what is there: a call to a certain function, or instructions that occur once. A kernel in which
one is not as expected is refused.
"""

from __future__ import annotations

import re

from corral.injection.unfit import Check, UnfitError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corral.boot.pieces import Piece
    from corral.injection.linked import LinkedKernel

_CALL, _JUMP, _SHORT_JUMP, _NOP = 0xE8, 0xE9, 0xEB, b"\x90"
_LONG_NOP = b"\x0f\x1f\x44\0\0"
_CALL_SIZE = 5
_REACH = 1 << 31  # of a call or jump, in bytes
_FILLER = b"\xcc"  # between functions
ALIGNMENT = 64
LARGEST_CODE = 64 << 10  # bytes; it has 4 KB
ENTRIES = (  # of the code in the hole: where the kernel is led to it
    *("corral_start", "corral_general_protection"),
    *("corral_error_entry", "corral_return_from_syscall", "corral_return_to_kernel"),
)
_PAGE = 4096

# paranoid_entry: which CPU this is, by a descriptor's limit: mov $__CPUNODE_SEG, %rax; lsl; and $0xfff, %rax;
# mov __per_cpu_offset(, %rax, 8), %rax.
_CPU_BY_GDT = re.compile(rb"\x48\xc7\xc0\x7b\0\0\0\x48?\x0f\x03\xc0\x48\x25\xff\x0f\0\0\x48\x8b\x04\xc5.{4}", re.DOTALL)
# The same by the stack: mov %rsp, %rax; or $0xff8, %rax; mov (%rax), %rax.
_CPU_BY_STACK = b"\x48\x89\xe0\x48\x0d\xf8\x0f\0\0\x48\x8b\0"
# asm_exc_nmi, in user code: swapgs; room for a fence; jmp over what page table isolation has: mov %cr3, %rdx.
_NMI = re.compile(rb"\x0f\x01\xf8\x90{3}\xeb.\x0f\x20\xda", re.DOTALL)
_NOP_3 = b"\x0f\x1f\0"
# asm_exc_general_protection, with pt_regs in RDI: mov ORIG_RAX(%rsp), %rsi; movq $-1, ORIG_RAX(%rsp); call. The call is
# in a table of those that the kernel rewrites where it counts their depth; what is before it is in none.
_PROTECTION = re.compile(rb"\x48\x8b\x74\x24\x78(\x48\xc7\x44\x24\x78\xff{4})(\xe8.{4})", re.DOTALL)
# __early_make_pgtable: or $_KERNPG_TABLE, of a register.
_OPEN_TO_KERNEL = re.compile(rb"\x48\x83[\xc8-\xcf]\x63", re.DOTALL)
_PAGE_TABLE = 0x67
# early_pmd_flags: what the pages have that it maps: __PAGE_KERNEL_LARGE without what not every CPU has.
_LARGE_PAGE, _USER = (0xE3).to_bytes(8, "little"), 0x04


@record(frozen=True)
class Places:
    """Addresses."""

    hole: int
    percpu: int
    start_call: int
    clear_bss_call: int
    protection: int
    protection_after: int
    cpu_by_gdt: int
    cpu_by_gdt_size: int
    nmi: int
    early_tables: tuple[int, ...]
    early_pages: int


def find(kernel: LinkedKernel) -> Places:
    """Raises UnfitError."""
    _require_own_page(kernel)
    by_gdt, by_gdt_size = _once(kernel, "paranoid_entry", _CPU_BY_GDT)
    protection, protection_after = _protection(kernel)
    early, code = kernel.function("__early_make_pgtable")
    opens = _match(code, _OPEN_TO_KERNEL, "__early_make_pgtable", 3)
    places = Places(
        hole=_hole(kernel),
        percpu=kernel.address("fixed_percpu_data"),
        start_call=_call(kernel, "x86_64_start_kernel", "copy_bootdata"),
        clear_bss_call=_call(kernel, "x86_64_start_kernel", "clear_bss"),
        protection=protection,
        protection_after=protection_after,
        cpu_by_gdt=by_gdt,
        cpu_by_gdt_size=by_gdt_size,
        nmi=_once(kernel, "asm_exc_nmi", _NMI)[0],
        early_tables=tuple(early + match.end() - 1 for match in opens),
        early_pages=kernel.address("early_pmd_flags"),
    )
    if kernel.read(places.early_pages, len(_LARGE_PAGE)) != _LARGE_PAGE:
        raise UnfitError(Check.CODE, "its early_pmd_flags are not as expected")
    if kernel.read(kernel.address("early_xen_iret_patch"), 1)[0] != _JUMP:
        raise UnfitError(Check.CODE, "its early_xen_iret_patch is no jump")
    return places


def replaced(kernel: LinkedKernel, places: Places, code: bytes, symbols: Mapping[str, int]) -> list[Piece]:
    """All but the table of exceptions; `code` is for the hole, and `symbols` are where it has what."""
    replace = kernel.replaced
    past_call = places.protection + _CALL_SIZE
    pieces = [
        replace(places.hole, code),
        replace(places.start_call, _to(places.start_call, symbols["corral_start"], _CALL)),
        # Guest memory is all zeros, and this is before the kernel runs natively: seconds of clearing it byte by byte.
        replace(places.clear_bss_call, _LONG_NOP),
        replace(places.protection, _to(places.protection, symbols["corral_general_protection"], _CALL)),
        replace(past_call, bytes([_SHORT_JUMP, places.protection_after - past_call - 2])),
        replace(places.cpu_by_gdt, _skipped(_CPU_BY_STACK, places.cpu_by_gdt_size)),
        replace(places.nmi, _NOP_3),  # KVM has exchanged GS's base
        # No program runs before other page tables are in use.
        replace(places.early_pages, bytes([_LARGE_PAGE[0] | _USER])),
    ]
    for name, target in (
        ("xen_error_entry", "corral_error_entry"),
        ("xenpv_restore_regs_and_return_to_usermode", "corral_return_from_syscall"),
        ("early_xen_iret_patch", "corral_return_to_kernel"),
    ):
        address = kernel.address(name)
        pieces.append(replace(address, _to(address, symbols[target])))
    return pieces + [replace(address, bytes([_PAGE_TABLE])) for address in places.early_tables]


def touched(kernel: LinkedKernel, places: Places) -> list[Piece]:
    """What would be replaced at most, before there is any code to put there."""
    return replaced(kernel, places, _FILLER * LARGEST_CODE, dict.fromkeys(ENTRIES, places.hole))


def _hole(kernel: LinkedKernel) -> int:
    """Where the code goes: entry code fills up whole large pages, for the sake of page table isolation."""
    start = -(-kernel.address("__entry_text_end") // ALIGNMENT) * ALIGNMENT
    if kernel.read(start, LARGEST_CODE) != _FILLER * LARGEST_CODE:
        raise UnfitError(Check.CODE, "it has no hole behind its entry code")
    return start


def _require_own_page(kernel: LinkedKernel) -> None:
    start = kernel.address("fixed_percpu_data")
    others = [name for name, at in kernel.places.items() if start + 1 <= at < start + _PAGE]
    if start % _PAGE or others:
        raise UnfitError(Check.CODE, "the first page of a CPU's area is not fixed_percpu_data's alone")


def _call(kernel: LinkedKernel, function: str, target: str) -> int:
    """Where the only call of `target` in `function` is."""
    start, code = kernel.function(function)
    found = [
        start + at
        for at in range(len(code) - _CALL_SIZE + 1)
        if code[at] == _CALL and code[at:].startswith(_to(start + at, kernel.address(target), _CALL))
    ]
    if len(found) != 1:
        raise UnfitError(Check.CODE, f"its {function} calls {target} {len(found)} times, not once")
    return found[0]


def _protection(kernel: LinkedKernel) -> tuple[int, int]:
    """What comes before asm_exc_general_protection's call of exc_general_protection, and what comes after it."""
    name = "asm_exc_general_protection"
    start, code = kernel.function(name)
    (match,) = _match(code, _PROTECTION, name, 1)
    if match[2] != _to(start + match.start(2), kernel.address("exc_general_protection"), _CALL):
        raise UnfitError(Check.CODE, f"its {name} does not call exc_general_protection where it should")
    return start + match.start(1), start + match.end()


def _once(kernel: LinkedKernel, function: str, pattern: re.Pattern[bytes]) -> tuple[int, int]:
    start, code = kernel.function(function)
    (match,) = _match(code, pattern, function, 1)
    return start + match.start(), len(match[0])


def _match(code: bytes, pattern: re.Pattern[bytes], function: str, count: int) -> list[re.Match[bytes]]:
    found = list(pattern.finditer(code))
    if len(found) != count:
        raise UnfitError(Check.CODE, f"its {function} has what is to be replaced {len(found)} times, not {count}")
    return found


def _to(address: int, target: int, operation: int = _JUMP) -> bytes:
    """The instruction at `address` that calls `target` or jumps there. Raises UnfitError where that is out of reach."""
    offset = target - address - _CALL_SIZE
    if not -_REACH <= offset < _REACH:
        raise UnfitError(Check.SYMBOLS, f"its symbols are too far apart: {address:#x} and {target:#x}")
    return bytes([operation]) + offset.to_bytes(4, "little", signed=True)


def _skipped(code: bytes, size: int) -> bytes:
    """`code`, and a jump over the rest of `size` bytes."""
    rest = size - len(code) - 2
    return code + bytes([_SHORT_JUMP, rest]) + _NOP * rest
