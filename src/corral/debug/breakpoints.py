"""What a guest is stopped for: points in its address space, and how the debug registers are told of them."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.startup.enums import Enum
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEBUG_REGISTERS = 4


class PointKind(Enum):
    SOFTWARE = "software breakpoint"  # an instruction of ours in the guest's memory; any number of them
    HARDWARE = "hardware breakpoint"  # a debug register; the memory need not be there yet
    WRITE = "write watchpoint"
    ACCESS = "access watchpoint"  # loads and stores

    @property
    def executes(self) -> bool:
        return self in (PointKind.SOFTWARE, PointKind.HARDWARE)


class Point:
    """A breakpoint or a watchpoint. `address` is linear; `size` in bytes is that of what is watched.

    `callback` is called with the Stop, all vCPUs being paused; the guest stays stopped when it returns True.
    """

    def __init__(self, kind: PointKind, address: int, size: int, callback: Callable[[Stop], object] | None) -> None:
        if kind.executes:
            size = 1
        elif size not in (1, 2, 4, 8) or address % size:
            raise ConfigError(f"{size} bytes at {address:#x} cannot be watched: 1, 2, 4 or 8, aligned to their size")
        if not 0 <= address < 1 << 64:
            raise ConfigError(f"{address:#x} is no 64-bit address")
        self.kind, self.address, self.size, self.callback = kind, address, size, callback
        self.gpa: int | None = None  # of a software breakpoint, or what is watched by its page
        self.hits = 0

    def __repr__(self) -> str:
        return f"<{self.kind.value} at {self.address:#x}, {self.hits} hits>"


class Why(Enum):
    BREAKPOINT = "breakpoint"
    WATCHPOINT = "watchpoint"
    STEP = "step"
    PAUSE = "pause"
    ENDED = "the guest ended"
    TIMEOUT = "the time is over"


@record(frozen=True)
class Stop:
    """Why a guest stopped, on which vCPU, and where: `rip` is linear, without the base of CS."""

    HEX = ("rip",)

    why: Why
    vcpu: int = 0
    rip: int = 0
    point: Point | None = None


def debug_registers(points: Sequence[Point]) -> tuple[int, ...]:
    """DR0 to DR7 for up to four points (SDM 3B, 17.2.4)."""
    registers = [0] * 8
    for slot, point in enumerate(points):
        registers[slot] = point.address
        condition = {PointKind.HARDWARE: 0, PointKind.WRITE: 1, PointKind.ACCESS: 3}[point.kind]
        length = {1: 0, 2: 1, 4: 3, 8: 2}[point.size]
        registers[7] |= 2 << 2 * slot | (condition | length << 2) << 16 + 4 * slot
    registers[7] |= 1 << 10 | 1 << 9 if points else 0  # a bit that is always set, and GE as all do
    return tuple(registers)
