"""One system call of a guest's program, as it is told."""

from __future__ import annotations

from corral.debug.probes import signatures
from corral.startup.record import record


@record(frozen=True)
class Syscall:
    """One call. `time` is when it began, `duration` how long it took, both ns by the host's clock; `arguments` are six
    registers, unsigned, `strings` those that are strings, with their numbers. `result` and `duration` are None of a
    call that does not return. `pid` is the thread's number, `tgid` its process's; 0, and `comm` "", where the kernel's
    symbols do not tell."""

    HEX = ("arguments",)

    time: int
    vcpu: int
    pid: int
    tgid: int
    comm: str
    number: int
    name: str
    arguments: tuple[int, ...]
    strings: tuple[tuple[int, str], ...] = ()
    result: int | None = None
    duration: int | None = None

    def __str__(self) -> str:
        called = signatures.written(self.name, self.arguments, dict(self.strings))
        took = "" if self.duration is None else f" <{self.duration / 1e9:.6f}>"
        return f"{called} = {signatures.result_written(self.result)}{took}"
