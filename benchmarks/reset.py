"""reset: a machine that goes back to a checkpoint in place: of a bare guest whose program, at CPL 3, writes 16 or 256
pages and tells of it, and of Linux behind a command.

Of a bare guest: the call alone, and whole rounds a second, in which the guest writes its pages; of Linux the call.
The least of several turns, each of many: other programs may be at work on the host.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import corral
from benchmarks.measure import verdict
from corral.boot.payload import parse_flat
from corral.memory import PAGE
from tests.support.tiny_guests import flat

AT, CODE, PORT = 0x400000, 0x200000, 0xE9  # which no device has
TURNS, ROUNDS, LIMIT = 30, 40, 60.0
CALL, A_PAGE = 60.0, 1.0  # us: what a reset may take
RATES = {16: 5000.0, 256: 1500.0}  # resets a second, at least


def guest(pages: int) -> corral.MachineConfig:
    writes = f"xor %eax, %eax; 6: inc %rax; mov ${AT}, %edi; 7: mov %rax, (%rdi); add ${PAGE}, %rdi; "
    writes += f"cmp ${AT + pages * PAGE}, %edi; jb 7b; out %al, ${PORT}; jmp 6b"
    kernel = flat("user_interrupt", CODE, 64, INSTRUCTIONS=writes, CODE_3=0x1B, GATES=0xEE)
    return corral.MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat(f"long@{CODE:#x}"), debug_exit=0xF4)


def least(turn: Callable[[], float]) -> float:
    """Microseconds of a round."""
    return min(turn() for _ in range(TURNS)) / ROUNDS * 1e6


def bare(pages: int) -> bool:
    """The vCPU is run on this thread: to wake its own takes as long as a reset."""
    with corral.Machine(guest(pages)) as vm:
        vm.run_until(exit=lambda exit: exit.address == PORT, timeout=LIMIT)
        moment, spent = vm.checkpoint(), [0.0]
        vcpu = vm.vcpus[0]

        def turn() -> float:
            spent[0] = 0.0
            start = time.perf_counter()
            for _ in range(ROUNDS):
                vcpu.run()  # to its exit, on this thread: the vCPU's own is paused
                before = time.perf_counter()
                vm.reset(moment)
                spent[0] += time.perf_counter() - before
            whole.append(time.perf_counter() - start)
            return spent[0]

        whole: list[float] = []
        call = least(turn)
        rate = ROUNDS / min(whole)
    print(f"reset, {pages} pages: {call:.0f} us, {rate:.0f} rounds a second")
    within = verdict(f"reset of {pages} pages", call, CALL + A_PAGE * pages, "us")
    return verdict(f"a round of {pages} pages", 1e6 / rate, 1e6 / RATES[pages], "us") and within


def linux() -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LIMIT)
        moment, took = vm.checkpoint(), []
        for _ in range(TURNS):
            vm.console.send("echo said\n")
            vm.console.expect("\nsaid", timeout=LIMIT)
            start = time.perf_counter()
            vm.reset(moment)
            took.append(time.perf_counter() - start)
        print(f"reset, Linux behind an echo: {min(took) * 1e3:.2f} ms")


def main() -> bool:
    met = [bare(pages) for pages in RATES]
    linux()
    return all(met)


if __name__ == "__main__":
    sys.exit(not main())
