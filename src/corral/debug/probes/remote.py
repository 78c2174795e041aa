"""A trace of system calls that another process asks for, by the control socket of a guest with a name
(running/control.py). The guest's process, in its jail, knows no symbols: it is told the places and the names.

A call is a line of JSON, a list of Syscall's fields in their order; so many that were lost are `{"lost": 12}`.
"""

from __future__ import annotations

import json

from corral.debug.probes import syscalls
from corral.debug.probes.syscall import Syscall
from corral.debug.probes.syscalls import MOST_NUMBERS, SyscallPlaces, SyscallTrace
from corral.errors import ConfigError, HostError
from corral.native import Event
from corral.symbols import kernel_image, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.machine import Machine
    from corral.running.attached import Attached

WORD = b"syscalls"
MOST_KEPT = 1 << 14  # calls that wait to be sent; later ones are lost
_AT_A_TIME = 256  # calls
_LONGEST_NAME = 64
_LONGEST_LINE = 1 << 20


class SyscallStream:
    """The guest's side of one: what control.py has of a client."""

    def __init__(self, machine: Machine, event: Event, text: bytes) -> None:
        where, known = _asked(text)
        self._told = 0
        self._event = event
        self._trace = SyscallTrace(machine, where, most=MOST_KEPT, known=known, wake=event.signal)

    def take(self) -> bytes:
        """Some of the lines that there are."""
        lines = []
        for call in self._trace:
            lines.append(json.dumps([getattr(call, name) for name in Syscall.__match_args__]))
            if len(lines) >= _AT_A_TIME:
                break
        if not lines and self._trace.lost > self._told:
            lines.append(json.dumps({"lost": self._trace.lost - self._told}))
            self._told = self._trace.lost
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        self._trace.close()


class SyscallStreams:
    """Made before the guest is in its jail, where no event can be. `open` raises ConfigError."""

    def __init__(self, machine: Machine) -> None:
        self.event = Event("the guest's trace")
        self._machine = machine

    def open(self, text: bytes) -> SyscallStream:
        return SyscallStream(self._machine, self.event, text)


def _asked(text: bytes) -> tuple[SyscallPlaces, tuple[str, ...]]:
    try:
        where, known = json.loads(text)
        numbers = [int(at) for at in where]
        names = tuple(str(name) for name in known)
    except (ValueError, TypeError, RecursionError):
        raise ConfigError("these places make no sense") from None
    if (
        len(numbers) != len(SyscallPlaces.__match_args__)
        or not all(0 <= at < 1 << 64 for at in numbers)
        or len(names) > MOST_NUMBERS
        or any(len(name) > _LONGEST_NAME for name in names)
    ):
        raise ConfigError("these places make no sense")
    return SyscallPlaces(*numbers), names


def request(kernel: str) -> str:
    """What asks for the trace of a guest with this kernel. Raises ConfigError where it has no symbols."""
    symbols = table.of_guest(kernel)
    if symbols is None:
        raise ConfigError(
            f"the kernel {kernel!r} has no symbols, and no System.map beside it; system calls are not found"
        )
    read = kernel_image.reader(kernel)
    where = syscalls.places(symbols, read)
    names = syscalls.names(symbols, read(where.table, MOST_NUMBERS * 8)) if where.table else ()
    places = [getattr(where, name) for name in SyscallPlaces.__match_args__]
    return f"{WORD.decode()} {json.dumps([places, names])}"


def calls(guest: Attached) -> Iterator[Syscall | int]:
    """As they come, until the guest ends; numbers are how many were lost. Raises HostError for what makes no sense."""
    waiting = guest.early()
    while True:
        *lines, waiting = waiting.split(b"\n")
        yield from map(_call, lines)
        piece = guest.read()
        if piece is None:
            return
        waiting += piece
        if len(waiting) > _LONGEST_LINE:
            raise HostError("the guest's process sends lines without an end")


def _call(line: bytes) -> Syscall | int:
    try:
        plain = json.loads(line)
        if isinstance(plain, dict):
            return int(plain["lost"])
        time, vcpu, pid, tgid, comm, number, name, arguments, strings, result, duration = plain
        return Syscall(
            *(int(time), int(vcpu), int(pid), int(tgid), str(comm), int(number), str(name)),
            _six(arguments),
            tuple((int(at), str(text)) for at, text in strings),
            None if result is None else int(result),
            None if duration is None else int(duration),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HostError("the guest's process sends what is no system call") from None


def _six(plain: list[int]) -> tuple[int, ...]:
    if len(plain) != 6:
        raise ValueError
    return tuple(int(value) for value in plain)
