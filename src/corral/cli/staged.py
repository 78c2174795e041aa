"""`corral boot` with a clock in it: python -P staged.py FILE boot ARGUMENTS... leaves `moment stage` lines in FILE.

A moment is the end of its stage, in nanoseconds of CLOCK_MONOTONIC. The functions between which a start passes are
wrapped from here, so that an ordinary start has no such lines.
"""

import time

_MOMENTS = [(time.monotonic_ns(), "interpreter")]

import os  # noqa: E402  (after the clock: what is imported is part of the next stage)
import sys  # noqa: E402
from typing import Any  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def passed(stage: str) -> None:
    _MOMENTS.append((time.monotonic_ns(), stage))


def _end_stage_with(owner: Any, name: str, stage: str, before: str = "") -> None:
    """Lets `stage` end with the first call of a function, and the stage `before`, if any, when it is called."""
    inner: Callable[..., Any] = getattr(owner, name)
    told = False

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal told
        if told:
            return inner(*arguments, **keywords)
        told = True
        if before:
            passed(before)
        try:
            return inner(*arguments, **keywords)
        finally:
            passed(stage)

    setattr(owner, name, wrapped)


def _wrap() -> None:
    """Corral's own modules are imported as a boot imports them: those of a stage when it begins."""
    from corral.cli import boot as module

    boot: Any = module
    _end_stage_with(boot, "asked_for", "KVM: VM, interrupts, memory", before="imports, command line")
    inner = boot._machine

    def machine(*arguments: Any) -> Any:
        from corral.launch import configure

        passed("imports meanwhile")
        _end_stage_with(
            configure, "with_kernel", "kernel chosen"
        )  # one that goes on from an earlier start has none to choose
        _wrap_machine()
        return inner(*arguments)

    boot._machine = machine


def _wrap_machine() -> None:
    from corral import machine
    from corral.boot.kernel import Kernel
    from corral.core.shell import Shell

    _end_stage_with(Kernel, "load", "kernel and initramfs loaded", before="kernel opened")
    _end_stage_with(Shell, "connected", "memory given to KVM", before="devices and vCPUs")
    _end_stage_with(machine.Machine, "start", "first instruction")


def main() -> int:
    from corral.startup import bundle

    bundle.use()
    _wrap()
    from corral.cli import main as command

    status = command(sys.argv[2:])
    with open(sys.argv[1], "w") as file:
        file.writelines(f"{moment} {stage}\n" for moment, stage in _MOMENTS)
    return status


if __name__ == "__main__":
    end = main()
    sys.stdout.flush()
    os._exit(end)
