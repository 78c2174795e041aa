"""probes: what one system call costs a guest that is traced (vm.trace_syscalls()), against a breakpoint at the same
system call, and against none.

Each round runs the same loop of the guest's shell, `kill -0 $$`, in one guest that stays up. A breakpoint stops all
vCPUs, and is what there was before there were probes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import corral
from benchmarks.measure import interleaved, report, verdict
from corral.script.machine import ScriptedMachine

ROUNDS = 7
CALLS, STOPS = 300, 30  # system calls a round; with breakpoints
PLAIN, TRACED, STOPPED = "not traced", "vm.trace_syscalls()", "a breakpoint with a callback"
SHELL = "trap : INT; while read n; do i=0; while [ $i -lt $n ]; do kill -0 $$; i=$((i+1)); done; echo done $n; done"


def _loop(vm: ScriptedMachine, count: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    vm.console.send(f"{count}\n")
    vm.console.expect(f"done {count}", timeout=60)
    return (time.perf_counter() - start) / count


def contenders(vm: ScriptedMachine) -> dict[str, Callable[[], float]]:
    def traced() -> float:
        with vm.trace_syscalls() as trace:
            took = _loop(vm, CALLS)
        traced = [call.name for call in trace]
        if traced.count("kill") != CALLS:
            raise RuntimeError("the trace is not whole")
        return took * CALLS / len(traced)  # the shell makes others besides

    def stopped() -> float:
        point = vm.breakpoint("__x64_sys_kill", lambda stop: False)
        took = _loop(vm, STOPS)
        vm.remove(point)
        if point.hits != STOPS:
            raise RuntimeError("the breakpoint was passed")
        return took

    return {PLAIN: lambda: _loop(vm, CALLS), TRACED: traced, STOPPED: stopped}


def main() -> bool:
    with corral.linux(SHELL) as vm:
        vm.run_until("init\r\n", timeout=60)
        samples = interleaved(contenders(vm), ROUNDS)
    medians = report("probes: one system call of a guest's program", samples, PLAIN, "us")
    return verdict("traced / with a breakpoint", medians[TRACED] / medians[STOPPED], 0.33)


if __name__ == "__main__":
    sys.exit(not main())
