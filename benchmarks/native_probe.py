"""native_probe: what a start pays to know whether a guest's kernel code runs natively on a pagetable KVM."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from benchmarks.measure import interleaved, report, verdict
from corral.arch.x86_64 import native_probe
from corral.arch.x86_64.supervisor import supervisor_mode
from corral.kvm.system import Kind, System, host_kind
from corral.native import lib

ROUNDS = 101


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def empty_vm() -> None:
    with System() as system:
        system.create_vm().close()


def main() -> bool:
    """The self-test against a VM with nothing in it, and its result from the cache."""
    if host_kind() is Kind.HARDWARE:
        print("\nnative_probe: this KVM runs any kernel natively, and tests nothing")
        return True
    finding = native_probe.run()
    if not finding.passed:
        print(f"\nnative_probe: {finding.sentence}")
        return finding.check == lib.CORRAL_PROBE_SIGNATURE
    contenders = {
        "a VM with nothing in it": lambda: seconds(empty_vm),
        "the self-test": lambda: seconds(native_probe.run),
        "its result, from the cache": lambda: seconds(supervisor_mode),
    }
    samples = interleaved(contenders, ROUNDS)
    medians = report("native_probe: the self-test of native supervisor mode", samples, "a VM with nothing in it")
    met = verdict("the self-test", medians["the self-test"] * 1e3, 3, "ms")
    return verdict("its result, from the cache", medians["its result, from the cache"] * 1e3, 0.2, "ms") and met


if __name__ == "__main__":
    sys.exit(not main())
