"""Where a kernel's image loads its interrupt table: its LIDT instructions, found by their bytes.

What only looks like one is never come to as an instruction, and does no harm (assist_user.c). But to watch costs
each exit a microsecond or two, for the debug registers are exchanged: a kernel with no way to programs is not watched.
"""

from __future__ import annotations

from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory

MOST = int(lib.CORRAL_LIDTS)
SEARCHED = 16 << 20  # bytes: a kernel that has more text sets its table up early

_OPCODE = b"\x0f\x01"
_MEMBER, _MEMORY = 0x38, 0x18  # of ModRM: 0F 01 /3; a memory operand has no register's mode
_REGISTER = 0xC0
# What may stand before it: operand and address size, segments, REX.
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, *range(0x40, 0x50)))
# What can lower the privilege: IRET, far RET, SYSRET, SYSEXIT. A handler of interrupts ends with IRET, so a kernel of
# some size has one; a switch of tasks would need no more than a far JMP, but such a kernel has handlers too.
_WAYS_TO_PROGRAMS = (b"\xcf", b"\xca", b"\xcb", b"\x0f\x07", b"\x0f\x35")


def watch(memory: GuestMemory, code: Sequence[tuple[int, int, int]], vcpus: Iterable[Vcpu]) -> tuple[int, ...] | None:
    """Has each vCPU complete software interrupts of programs, by the tables that this code loads. Returns what find()
    does; None where nothing is watched, since there can be no programs."""
    if not may_have_programs(memory, code):
        return None
    places = find(memory, code)
    for vcpu in vcpus:
        vcpu.watch_interrupts(places)
    return places


def may_have_programs(memory: GuestMemory, code: Sequence[tuple[int, int, int]]) -> bool:
    """Whether these pieces of code (guest physical, size, linear) have an instruction that could lead to CPL 3. Code
    that is not there yet may have one, and so may what lies behind the first SEARCHED bytes."""
    if not code:
        return True
    left = SEARCHED
    for start, size, _ in code:
        if size > left:
            return True
        text = bytes(memory.view(start, size))
        if any(way in text for way in _WAYS_TO_PROGRAMS):
            return True
        left -= size
    return False


def find(memory: GuestMemory, code: Iterable[tuple[int, int, int]]) -> tuple[int, ...]:
    """The linear addresses of the first few, in pieces of code (guest physical, size, linear)."""
    found: list[int] = []
    left = SEARCHED
    for start, size, linear in code:
        text = bytes(memory.view(start, min(size, left)))
        left -= len(text)
        at = text.find(_OPCODE)
        while 0 <= at < len(text) - 2 and len(found) < MOST:
            modrm = text[at + 2]
            if modrm & _MEMBER == _MEMORY and modrm < _REGISTER:
                found.append(linear + at)
                if at and text[at - 1] in _PREFIXES and len(found) < MOST:
                    found.append(linear + at - 1)
            at = text.find(_OPCODE, at + 1)
    return tuple(found)
