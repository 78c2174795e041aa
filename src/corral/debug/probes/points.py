"""What a kernel does, by name: which of its functions that is, and what the arguments mean."""

from __future__ import annotations

from corral.debug.probes import place, probes
from corral.debug.probes.tasks import Task, Tasks
from corral.errors import ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.debug.probes.hit import Hit
    from corral.machine import Machine
    from corral.symbols.table import Symbols

    Detail = Callable[[Hit, Tasks], dict[str, object]]

_MODULE_NAME = 24  # into struct module: behind its state and a list's two pointers
_WRITE, _USER, _FETCH = 1 << 0, 1 << 6, 1 << 8  # FAULT_FLAG_ (include/linux/mm_types.h)


@record(frozen=True)
class KernelEvent:
    """`what` a kernel does at `time`, ns of the host's clock, for `task` on a vCPU. `arguments` are the six registers
    that a function's first arguments are in; `details` what is known of them, by name."""

    HEX = ("arguments",)

    what: str
    time: int
    vcpu: int
    task: Task
    arguments: tuple[int, ...]
    details: dict[str, object]

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.details.items())
        return f"{self.what}({told}) by {self.task.comm or '?'}[{self.task.pid}] on vCPU {self.vcpu}"


def _switch(hit: Hit, tasks: Tasks) -> dict[str, object]:
    previous, following = hit.arguments[:2]
    return {"previous": tasks.at(hit, previous), "next": tasks.at(hit, following)}


def _exec(hit: Hit, tasks: Tasks) -> dict[str, object]:
    return {"name": tasks.running(hit).comm}


def _fork(hit: Hit, tasks: Tasks) -> dict[str, object]:
    return {"child": tasks.at(hit, hit.arguments[0])}


def _exit(hit: Hit, tasks: Tasks) -> dict[str, object]:
    code = hit.arguments[0]
    return {"status": code >> 8 & 0xFF, "signal": code & 0x7F}


def _page_fault(hit: Hit, tasks: Tasks) -> dict[str, object]:
    _, address, flags = hit.arguments[:3]
    kind = "fetch" if flags & _FETCH else "write" if flags & _WRITE else "read"
    return {"address": address, "kind": kind, "by_program": bool(flags & _USER)}


def _signal(hit: Hit, tasks: Tasks) -> dict[str, object]:
    return {"signal": hit.arguments[0] & 0xFF, "to": tasks.at(hit, hit.arguments[2])}


def _module(hit: Hit, tasks: Tasks) -> dict[str, object]:
    return {"name": hit.string(hit.arguments[0] + _MODULE_NAME, 56)}


def _message(hit: Hit, tasks: Tasks) -> dict[str, object]:
    return {"message": hit.string(hit.arguments[0])}


# The kernel's function for each, and what to tell. finalize_exec() is called by what has become another program.
POINTS: dict[str, tuple[str, Detail]] = {
    "task_switch": ("__switch_to", _switch),
    "exec": ("finalize_exec", _exec),
    "fork": ("wake_up_new_task", _fork),
    "exit": ("do_exit", _exit),
    "page_fault": ("handle_mm_fault", _page_fault),
    "signal": ("__send_signal_locked", _signal),
    "module_load": ("do_init_module", _module),
    "oops": ("__die", _message),
    "panic": ("panic", _message),
}


def on(
    machine: Machine,
    symbols: Symbols,
    read: Callable[[int, int], bytes],
    what: str,
    call: Callable[[KernelEvent], object],
) -> probes.Probe:
    """`what`: one of POINTS, or a function of the kernel. `read` gives the kernel's code. Raises ConfigError."""
    function, details = POINTS.get(what, (what, None))
    if what in POINTS and symbols.known(function) is None:
        raise ConfigError(f"this kernel has no {what}: there is no function {function} in it")
    address = place.find(symbols.address(function), read, function)
    tasks = Tasks(*Tasks.places(symbols))

    def met(hit: Hit) -> None:
        told = details(hit, tasks) if details else {}
        call(KernelEvent(what, hit.time, hit.index, tasks.running(hit), hit.arguments, told))

    return probes.of(machine).add(address, met)
