"""restore: a guest that goes on from a snapshot, against booting it, and against a container.

Whole processes: `corral boot -- true` from the boot cache, the same by a process of a pool, and without either, `corral
boot --restore` of a shell whose standard input is at its end, and `runc run` of a program that says a line, where there
is runc. `corral clone`: what one of many takes. `vm.snapshot()` of a guest with 64 MiB in use that goes on: how long it
stands still, how long the call takes, and that on a parent. And in a process that has Corral loaded: `corral.restore()`
alone, until a program in the guest has run an instruction, and until the restored shell has answered a line; a hundred
at once, and the memory that is theirs alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import corral
from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from corral.boot.payload import parse_flat
from corral.compare import programs
from corral.compare.contenders.base import Job, Kit
from corral.compare.contenders.runc import Runc
from tests.support.tiny_guests import flat

ROUNDS = 15
LIMIT = 60.0  # seconds
WHOLE, BOOT, CACHED, RUNC = "corral boot --restore", "corral boot --fresh -- true", "corral boot -- true", "runc run"
POOLED = "corral-client boot -- true"
CALL, ANSWER = "corral.restore()", "until its shell answered"
FIRST = "until an instruction of a program"
COUNTER = 0x300000  # where that program counts
CLONES, AT_ONCE, LIST_ROUNDS = 64, 100, 5


def save(path: Path) -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LIMIT)
        vm.snapshot(str(path))


def save_counting(path: Path) -> None:
    """A guest whose program, at CPL 3, counts."""
    count = f"8: incl {COUNTER:#x}; jmp 8b"
    kernel = flat("user_interrupt", 0x200000, 64, INSTRUCTIONS=count, CODE_3=0x1B, GATES=0xEE)
    config = corral.MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat("long@0x200000"), debug_exit=0xF4)
    with corral.Machine(config) as vm:
        vm.run_until(condition=lambda vm: vm.phys[COUNTER].u32 > 0, timeout=LIMIT)
        vm.snapshot(str(path))


def counts(vm: corral.Machine) -> None:
    """Returns when its program has run on."""
    with vm.memory.view(COUNTER, 4).cast("I") as counter:
        before = counter[0]
        vm.resume()
        while counter[0] == before:
            time.sleep(0)  # the thread of the vCPU wants the interpreter too


def first(path: Path) -> float:
    start = time.perf_counter()
    with corral.restore(path) as vm:
        counts(vm)
        return time.perf_counter() - start


def many(path: Path) -> float:
    """A hundred at once, of each an instruction; told per guest."""
    before, start = private(), time.perf_counter()
    machines = []
    try:
        for _ in range(AT_ONCE):
            machines.append(corral.restore(path))
            counts(machines[-1])
            machines[-1].pause()
        took = (time.perf_counter() - start) / AT_ONCE
        print(f"  {AT_ONCE} at once: {(private() - before) / AT_ONCE / 1024:.2f} MiB each that are theirs alone")
        return took
    finally:
        for machine in machines:
            machine.close()


def private() -> int:
    """KiB of this process that no other shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def call(path: Path) -> float:
    start = time.perf_counter()
    with corral.restore(path):
        return time.perf_counter() - start


def answer(path: Path) -> float:
    start = time.perf_counter()
    with corral.restore(path) as vm:
        vm.console.send("echo $((6*7))\n")
        vm.console.expect("\n42", timeout=LIMIT)
        return time.perf_counter() - start


def save_live(folder: Path) -> None:
    """Of Linux with 512 MiB that reads a file of 36 MiB all the time."""
    still, whole = folder / "parent", folder / "whole"
    with corral.linux(memory="512M") as vm:
        vm.console.expect("# ", timeout=LIMIT)
        vm.console.send(
            "mkdir /t; mount -t tmpfs t /t; dd if=/dev/urandom of=/t/a bs=1M count=36 2>/dev/null; echo up $((6*7)); "
            "while :; do cat /t/a >/dev/null; done\n"
        )
        vm.console.expect("up 42", timeout=LIMIT)
        vm.snapshot(str(still))
        pause, resume, stood, began = vm.pause, vm.resume, [], 0.0

        def stand() -> None:
            nonlocal began
            began = time.perf_counter()
            pause()

        def go_on() -> None:
            resume()
            stood.append(time.perf_counter() - began)

        vm.pause, vm.resume = stand, go_on  # type: ignore[method-assign]

        def one(path: Path, parent: str | None) -> float:
            start = time.perf_counter()
            vm.snapshot(str(path), parent=parent)
            return time.perf_counter() - start

        go_on()
        stood.clear()
        of_all, on_parent = "vm.snapshot()", "vm.snapshot(parent=)"
        calls = {of_all: partial(one, whole, None), on_parent: partial(one, whole.with_name("child"), str(still))}
        report("a guest that goes on while it is saved", interleaved(calls, ROUNDS), of_all)
        stood.sort()
        print(f"  it stands still for {stood[len(stood) // 2] * 1000:.1f} ms, at least {stood[0] * 1000:.1f}")
        for path in (whole, whole.with_name("child")):
            print(f"  {path.name}: {path.stat().st_blocks / 2048:.1f} MiB")


def contain(runc: Runc) -> float:
    launch = runc.launch(Job(programs.binary("hello")))
    try:
        return seconds(launch.argv, launch.environment)
    finally:
        runc.kit.pending += launch.undo
        runc.kit.tidy_up(launch.undo)


@contextmanager
def pool(program: str, folder: Path) -> Iterator[list[str]]:
    """What runs `boot -- true` by a pool of this benchmark's own."""
    folder.mkdir(0o700)
    environment = installed.environment() | {"XDG_RUNTIME_DIR": str(folder)}
    subprocess.run([program, "pool", "start"], check=True, env=environment)
    try:
        yield ["env", f"XDG_RUNTIME_DIR={folder}", f"{program}-client", "boot", "--", "true"]
        told = subprocess.run([program, "pool", "status"], check=True, env=environment, capture_output=True, text=True)
        print(f"  pool: {told.stdout.strip()}")
    finally:
        subprocess.run([program, "pool", "stop"], check=True, env=environment)


def main() -> bool:
    program = installed.corral()
    with (
        tempfile.TemporaryDirectory(prefix="corral-restore-") as folder,
        pool(program, Path(folder, "run")) as pooled,
    ):
        path = Path(folder, "shell")
        save(path)
        whole = {
            WHOLE: partial(seconds, [program, "boot", "--restore", str(path)], installed.environment()),
            CACHED: partial(seconds, [program, "boot", "--", "true"], installed.environment()),
            POOLED: partial(seconds, pooled, installed.environment()),
            BOOT: partial(seconds, [program, "boot", "--fresh", "--", "true"], installed.environment()),
        }
        runc = Runc(Kit(Path(folder), 0))
        if not runc.missing():
            whole[RUNC] = partial(contain, runc)
        medians = report("restore, whole processes", interleaved(whole, ROUNDS), BOOT)
        met = verdict("restore / boot", medians[WHOLE] / medians[BOOT], 0.8)
        if RUNC in medians:
            met &= verdict("boot from the cache / runc", medians[CACHED] / medians[RUNC], 1.0)
            met &= verdict("the same by a pool / runc", medians[POOLED] / medians[RUNC], 1.0)
        ready, counting = Path(folder, "ready"), Path(folder, "counting")
        seconds([program, "snapshot", str(ready)], installed.environment())
        cloned = [program, "clone", str(ready), "-n", str(CLONES), "--", "true"]
        each = {"corral clone: each": lambda: seconds(cloned, installed.environment()) / CLONES}
        took = report(f"clones, {CLONES} of a command", interleaved(each, LIST_ROUNDS), "corral clone: each")
        print(f"  {1 / took['corral clone: each']:.0f} clones a second, from start to end")
        save_live(Path(folder))
        save_counting(counting)
        inside = {CALL: partial(call, path), FIRST: partial(first, counting), ANSWER: partial(answer, path)}
        report("restore, in a process that has Corral loaded", interleaved(inside, ROUNDS), ANSWER)
        every = f"{AT_ONCE} guests: each"
        report("restore, many in one process", interleaved({every: partial(many, counting)}, LIST_ROUNDS), every)
    return met


if __name__ == "__main__":
    sys.exit(not main())
