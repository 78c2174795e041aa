"""System calls of a guest's programs, told from outside.

    with corral.linux("ls /") as vm, vm.trace_syscalls() as trace:
        vm.wait(60)
        for call in trace:
            print(call)

Two probes: where the kernel does a system call, do_syscall_64(), and where it has done one,
syscall_exit_to_user_mode(). Both have the program's registers at the same address, by which they are put together.
"""

from __future__ import annotations

import struct
from collections import deque

from corral.debug.probes import place, probes, signatures
from corral.debug.probes.syscall import Syscall
from corral.debug.probes.tasks import Tasks
from corral.errors import ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.debug.probes.hit import Hit
    from corral.machine import Machine
    from corral.symbols.table import Symbols

    # Syscall's fields that are known when it begins
    _Begun = tuple[int, int, int, int, str, int, str, tuple[int, ...], tuple[tuple[int, str], ...]]

ENTRY, EXIT, TABLE = "do_syscall_64", "syscall_exit_to_user_mode", "sys_call_table"
MOST_NUMBERS = 512  # entries of the table that are looked at
MOST_OPEN = 4096  # calls that have begun and not ended; of more the oldest are forgotten
LONGEST = 256  # bytes of a string argument
_PREFIXES = ("__x64_sys_", "__do_sys_", "sys_")
# struct pt_regs (arch/x86/include/asm/ptrace.h) as far as DI
_REGS = struct.Struct("<15Q")
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # DI, SI, DX, R10, R8, R9
_AX = 10
_ENDING = {"exit", "exit_group"}  # never return
_REPLACING = {"execve", "execveat"}  # their program is gone when they do


@record(frozen=True)
class SyscallPlaces:
    """Where the probes lie and what is read there, as addresses of the kernel: what symbols are needed for."""

    HEX = ("entry", "exit", "table", "current", "init")

    entry: int
    exit: int
    table: int
    current: int
    init: int


def places(symbols: Symbols, read: Callable[[int, int], bytes]) -> SyscallPlaces:
    """`read` gives the kernel's code. Raises ConfigError for a kernel that has no such functions."""
    entry, exit = (place.find(symbols.address(name), read, name) for name in (ENTRY, EXIT))
    return SyscallPlaces(entry, exit, symbols.known(TABLE) or 0, *Tasks.places(symbols))


def names(symbols: Symbols, table: bytes) -> tuple[str, ...]:
    """Of system calls, by number; of the content of the kernel's table."""
    found = [symbols.text(address) for (address,) in struct.iter_unpack("<Q", table[: len(table) // 8 * 8])]
    others = (at for at, name in enumerate(found) if not name.removeprefix("__").startswith(("x64_sys", "sys")))
    end = next(others, None)
    return tuple(_short(name) for name in found[:end])


def _short(name: str) -> str:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


class SyscallTrace:
    """Calls that have ended since they were last asked for, in the order of their ends. A context manager; close()
    takes the probes out. `most` are kept; later ones are `lost`, and counted.

    `tell`: gets each call instead, on its vCPU's thread. `known`: the names, where they are not to be read. `wake` is
    called when there is one to be read.
    """

    def __init__(
        self,
        machine: Machine,
        where: SyscallPlaces,
        symbols: Symbols | None = None,
        most: int = 1 << 16,
        tell: Callable[[Syscall], object] | None = None,
        known: tuple[str, ...] = (),
        wake: Callable[[], object] | None = None,
    ) -> None:
        if most < 1:
            raise ConfigError(f"most={most} calls are none to keep")
        self.lost, self.count = 0, 0
        self._where, self._symbols, self._tell, self._wake = where, symbols, tell, wake
        self._names = known
        self._tasks = Tasks(where.current, where.init)
        self._most = most
        self._ended: deque[Syscall] = deque()
        self._open: dict[int, _Begun] = {}  # by the address of the program's registers; one vCPU's at a time has it
        self._probes: list[probes.Probe] = []
        machine.require_open()
        try:
            for address, called in ((where.entry, self._begins), (where.exit, self._ends)):
                self._probes.append(probes.of(machine).add(address, called))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Does nothing the second time; what was traced can be read on."""
        while self._probes:
            self._probes.pop().close()

    def __enter__(self) -> SyscallTrace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Syscall]:
        """Takes what there is, and does not wait for more."""
        while self._ended:
            yield self._ended.popleft()

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def open(self) -> list[Syscall]:
        """That have begun: of programs that wait."""
        return [Syscall(*begun) for begun in list(self._open.values())]

    def _repr_html_(self) -> str:
        from corral.debug.probes import timeline

        return timeline.html(list(self._ended), self.lost)

    def _begins(self, hit: Hit) -> None:
        registers, number = hit.arguments[:2]
        number = signatures.signed(number, 32)
        if self._symbols and not self._names:
            self._names = names(self._symbols, hit.read(self._where.table, MOST_NUMBERS * 8))
        content = hit.read(registers, _REGS.size)
        if len(content) < _REGS.size:
            return
        fields = _REGS.unpack(content)
        arguments = tuple(fields[at] for at in _ARGUMENTS)
        name = self._names[number] if 0 <= number < len(self._names) else f"syscall_{number}"
        task = self._tasks.running(hit)
        who = task.pid, task.tgid, task.comm
        strings = self._strings(hit, name, arguments) if name in _REPLACING else ()
        begun = (hit.time, hit.index, *who, number, name, arguments, strings)
        if name in _ENDING:
            self._keep(Syscall(*begun))
            return
        if len(self._open) >= MOST_OPEN:
            self._open.pop(next(iter(self._open)), None)
        self._open[registers] = begun

    def _ends(self, hit: Hit) -> None:
        registers = hit.arguments[0]
        begun = self._open.pop(registers, None)
        if begun is not None:
            result = signatures.signed(hit.u64(registers + 8 * _AX))
            time, vcpu, pid, tgid, comm, number, name, arguments, strings = begun
            if name not in _REPLACING:
                strings = self._strings(hit, name, arguments)
            about = time, vcpu, pid, tgid, comm, number, name, arguments, strings
            self._keep(Syscall(*about, result, hit.time - time))

    def _strings(self, hit: Hit, name: str, arguments: tuple[int, ...]) -> tuple[tuple[int, str], ...]:
        """Of those that are in memory: where the call has ended, what the kernel has read is."""
        wanted = signatures.strings_of(name)
        return tuple(
            (at, hit.string(arguments[at], LONGEST)) for at in wanted if hit.translate(arguments[at]) is not None
        )

    def _keep(self, call: Syscall) -> None:
        self.count += 1
        if self._tell:
            self._tell(call)
        elif len(self._ended) < self._most:
            self._ended.append(call)
            if self._wake:
                self._wake()
        else:
            self.lost += 1
