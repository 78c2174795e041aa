"""introspect: looking into a guest of the small kernel, with its debug information (corral kernel debuginfo).

drgn's list of the tasks over a live guest, in process, against the same list from a core file of that guest; with it
what Corral's own takes, without drgn. And `corral diff` of two snapshots of a guest with 512 MiB: its time as a whole
process, and which part of the changed bytes of the kernel's heap it names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import drgn
from drgn.helpers.linux.pid import for_each_task

import corral
from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from corral.guests import kernel, kernel_debuginfo
from corral.introspect import difference
from corral.introspect.subject import Saved

ROUNDS, REPEATS, DIFF_ROUNDS = 15, 20, 5
LIMIT = 60.0  # seconds
LIVE, CORE, OWN, DIFF = "drgn, live", "drgn -c", "vm.linux.tasks()", "corral diff"
WORK = (
    "mkdir /tmp/many; for i in $(seq 300); do echo $i >/tmp/many/$i; done; ls -lR /proc/1 >/dev/null; echo fin''ished\n"
)


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(REPEATS):
        call()
    return (time.perf_counter() - began) / REPEATS


def listed(prog: Any) -> list[tuple[int, bytes]]:
    return [(task.pid.value_(), task.comm.string_()) for task in for_each_task(prog)]


def from_core(path: Path, vmlinux: str) -> Any:
    prog = drgn.Program()
    prog.set_core_dump(path)
    prog.load_debug_info([vmlinux])
    return prog


def main() -> bool:
    found = kernel_debuginfo.get(kernel.get(kernel.SMALL), lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="corral-introspect-") as folder:
        core, before, after = (Path(folder, name) for name in ("core", "before", "after"))
        with corral.linux(memory="512M") as vm:
            vm.console.expect("# ", timeout=LIMIT)
            vm.dump(str(core))
            live, saved = vm.drgn(), from_core(core, found.vmlinux)
            if listed(live) != listed(saved):
                raise SystemExit("the two lists of tasks differ")
            contenders = {
                LIVE: partial(timed, partial(listed, live)),
                CORE: partial(timed, partial(listed, saved)),
                OWN: partial(timed, vm.linux.tasks),
            }
            medians = report(f"a list of {len(listed(live))} tasks", interleaved(contenders, ROUNDS), CORE)
            met = verdict("drgn, live / drgn on a core file", medians[LIVE] / medians[CORE], 1.2)
            vm.snapshot(str(before))
            vm.console.send(WORK)
            vm.console.expect("finished", timeout=LIMIT)
            vm.snapshot(str(after))
        command = [installed.corral(), "diff", str(before), str(after)]
        whole = {DIFF: lambda: seconds(command, installed.environment())}
        took = report("two snapshots of 512 MiB", interleaved(whole, DIFF_ROUNDS), DIFF)
        met &= verdict("corral diff", took[DIFF], 1.0, "s")
        with Saved(str(before)) as old, Saved(str(after)) as new:
            told = difference.between(old, new)
        print(f"  {told.pages} pages differ, in {told.bytes} bytes; of the heap's {100 * told.named():.1f} % are named")
        met &= verdict("bytes of the heap without a name", 100 * (1 - told.named()), 10, "%")
    return met


if __name__ == "__main__":
    sys.exit(not main())
