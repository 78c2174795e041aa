"""Who makes a call: the task that a vCPU runs, found by the kernel's symbols alone.

Where a task_struct has its name and numbers is not among the symbols. Both are found in init_task: its name is
"swapper", and its parents and its group's leader are itself. What lies before the parents are pid and tgid, and a
random number between where the kernel has stack protection (include/linux/sched.h).
"""

from __future__ import annotations

import struct

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.debug.probes.hit import Hit
    from corral.symbols.table import Symbols

MOST_PID = 1 << 22  # PID_MAX_LIMIT
_COMM = 16  # bytes: TASK_COMM_LEN
_LOOKED_AT = 16 << 10  # bytes of init_task
_LEADER = 48  # from the first parent to the group's leader: two parents, two lists
_POINTERS = ("pcpu_hot", "current_task")  # a CPU's own; Linux 6.2 to 6.14 have the first, with the task as first member


@record(frozen=True)
class Task:
    """`pid` is the thread's number, `tgid` that of its process; 0 and "" where the kernel does not tell."""

    pid: int = 0
    tgid: int = 0
    comm: str = ""


class Tasks:
    """`current`: the offset of the pointer in a CPU's own area, `init`: the address of init_task. 0: not known."""

    def __init__(self, current: int, init: int) -> None:
        self.current, self.init = current, init
        self._offsets: tuple[int, int] | None = None  # of comm, and of the first parent

    @staticmethod
    def places(symbols: Symbols) -> tuple[int, int]:
        """`current` and `init`."""
        current = next((at for name in _POINTERS if (at := symbols.known(name)) is not None), 0)
        return current, symbols.known("init_task") or 0

    def running(self, hit: Hit) -> Task:
        if not (self.current and self.init):
            return Task()
        return self.at(hit, hit.u64(int(hit.sregs.gs.base) + self.current))

    def at(self, hit: Hit, task: int) -> Task:
        """Of the task_struct at this address."""
        if self._offsets is None:
            self._offsets = self._found(hit)
        comm, parent = self._offsets
        if not comm or not task:
            return Task()
        name = hit.string(task + comm, _COMM)
        numbers = hit.read(task + parent - 16, 16)
        if not parent or len(numbers) < 16:
            return Task(comm=name)
        first_pid, first_tgid, pid, tgid = struct.unpack("<4I", numbers)
        if not (0 < pid <= MOST_PID and 0 < tgid <= MOST_PID):
            pid, tgid = first_pid, first_tgid
        known = pid <= MOST_PID and tgid <= MOST_PID
        return Task(pid, tgid, name) if known else Task(comm=name)

    def _found(self, hit: Hit) -> tuple[int, int]:
        """0 for what is not there."""
        area = hit.read(self.init, _LOOKED_AT)
        comm = max(0, area.find(b"swapper"))
        own = struct.pack("<Q", self.init)
        at = area.find(own * 2)
        while at >= 0 and area[at + _LEADER : at + _LEADER + 8] != own:
            at = area.find(own * 2, at + 8)
        return comm, max(0, at)
