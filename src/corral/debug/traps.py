"""Instructions that stop a guest, in its memory in place of its own while it runs.

INT3 where KVM tells of it. Where it does not (docs/hosts.md, "Guest debugging") every write to a port comes to us, in
each way of running a kernel: there it is OUT of EAX. One byte of it is ours; what follows is taken for the port, and is
as it was.
"""

from __future__ import annotations

from corral.memory import PAGE, GuestMemoryError
from corral.native import lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.debug.breakpoints import Point
    from corral.memory import GuestMemory
    from corral.native import CData

_INT3 = b"\xcc"
_OUT = b"\xe7"  # OUT imm8, EAX
_OUT_TO_DX = b"\xef"  # OUT DX, EAX
_SIZES = (4, 2)  # bytes that are written to the port; 2 by 16-bit code
# Ports at which an access of this size is one to KVM's 8259 or 8254: it has to lie within their ports.
ANSWERED = (0x20, 0xA0, 0x40, 0x41, 0x42, 0x61, 0x62, 0x63)
_LENGTHS = (2, 1)  # of such an OUT
_PORT = b"\x80"  # one that is not


@record(frozen=True)
class Trap:
    """`code` is what it stands for, `length` that of the instruction that it begins. `point`: what it is for."""

    content: bytes
    code: bytes
    length: int
    point: Point | None


class Traps:
    """By guest physical address: an address space may have code at several places. `by_port`: OUT instead of INT3. RIP
    is `behind` it at its exit, or at it. The vCPUs are paused when traps are put in and taken out."""

    def __init__(self, memory: GuestMemory, by_port: bool, behind: bool) -> None:
        self._memory, self._by_port, self._behind = memory, by_port, behind
        self._traps: dict[int, Trap] = {}

    @property
    def placed(self) -> bool:
        """Whether there is one in the guest's memory."""
        return bool(self._traps)

    def put(self, gpa: int, point: Point | None = None) -> None:
        """The first one at an address counts."""
        if gpa not in self._traps:
            content, length = self._content(gpa) if self._by_port else (_INT3, 1)
            self._traps[gpa] = Trap(content, self._memory.read(gpa, len(content)), length, point)
            self._memory.write(gpa, content)

    def take_out(self) -> None:
        """Puts the guest's own code back, but for what it has written over meanwhile."""
        while self._traps:
            gpa, trap = self._traps.popitem()
            if self._memory.read(gpa, len(trap.content)) == trap.content:
                self._memory.write(gpa, trap.code)

    def take_out_at(self, gpa: int) -> None:
        """That one alone, and for good."""
        trap = self._traps.pop(gpa)
        self._memory.write(gpa, trap.code)

    def met(self, io: CData, rip: Callable[[], int], locate: Callable[[int], int | None]) -> tuple[int, Trap] | None:
        """At an exit for a port access: the trap that it was, and its linear address. `locate` gives the guest physical
        one of a linear one."""
        if not self._traps or io.direction == lib.KVM_EXIT_IO_IN or io.size not in _SIZES or io.count != 1:
            return None
        at = rip()
        for length in _LENGTHS:
            address = at - length if self._behind else at
            gpa = locate(address)
            trap = self._traps.get(gpa) if gpa is not None else None
            if trap and trap.length == length:
                return address, trap
        return None

    def _content(self, gpa: int) -> tuple[bytes, int]:
        """What to put there, and the length of the instruction that it begins."""
        try:
            following = self._memory.read(gpa + 1, 1)[0] if (gpa + 1) % PAGE else ANSWERED[0]
        except GuestMemoryError:
            following = ANSWERED[0]
        if following not in ANSWERED:
            return _OUT, 2
        from corral.debug.next_instruction import length_of

        if length_of(self._memory.read(gpa, min(15, PAGE - gpa % PAGE))) > 1:
            return _OUT + _PORT, 2
        return _OUT_TO_DX, 1  # DX is hardly one of those ports
