"""corral boot: a guest on this terminal."""

from __future__ import annotations

import os
import sys

from corral.cli.options import Arguments, Command, Option, parse
from corral.cli.terminal import Raw, leave_on_signals
from corral.config import MachineConfig, parse_size
from corral.console import Console, Over
from corral.errors import ConfigError, GuestTimeout
from corral.kvm.system import Kind, host_kind
from corral.machine import Machine, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

COMMAND = Command(
    name="boot",
    summary="""\
Boots KERNEL (a vmlinux, a bzImage or a PVH executable), or without one the Linux that suits this host best,
on this terminal. Ctrl-A X ends the guest, Ctrl-A H helps. At the end of its standard input the guest's shell
ends, and with it the guest.""",
    operands=("KERNEL",),
    rest="COMMAND...",
    options=(
        Option("initrd", "FILE", "initramfs; 'none' for none; without this option Corral's own"),
        Option("append", "STR", "kernel parameters, after Corral's own: the last one counts"),
        Option("memory", "SIZE", "guest memory, like 512M or 6G (default: 512M, 64M on a pagetable KVM)"),
        Option("cpus", "N", "virtual CPUs, 1 to 64 (default: 1)"),
        Option("console", "WHERE", "stdio, none, or file:PATH (default: stdio)"),
        Option("timeout", "S", "end the guest after S seconds, with exit status 124"),
    ),
    epilog="""\
examples:
  corral boot                                a shell in Linux
  corral boot -- uname -a                    one command; its exit status is corral's
  echo 'cat /proc/cpuinfo' | corral boot     a script
  corral boot ./vmlinux --append 'debug'     your kernel
  corral boot ./vmlinuz --initrd my.cpio --memory 2G --console file:boot.log --timeout 60

exit status: what COMMAND, or the shell, ended with; 0 when the guest shut down or reset without a word;
  2 bad usage or input; 3 the host lacks something; 4 the guest died; 124 timeout""",
)

DEFAULT_MEMORY = {Kind.HARDWARE: 512 << 20, Kind.PAGETABLE: 64 << 20}
LONGEST_TIMEOUT = 10**9


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    values = arguments.values
    kind = host_kind()
    cpus = _number(values.get("cpus", "1"), "--cpus")
    memory = parse_size(values["memory"]) if "memory" in values else DEFAULT_MEMORY[kind]
    timeout = _seconds(values["timeout"]) if "timeout" in values else None
    where = values.get("console", "stdio")
    if where not in ("stdio", "none") and not where.startswith("file:"):
        raise ConfigError(f"--console {where!r} is none of stdio, none, file:PATH")
    MachineConfig(kernel="", memory=memory, cpus=cpus)  # wrong numbers are told before anything is fetched or built
    config = _config(arguments, kind, memory, cpus)

    leave_on_signals()
    with _Output(where) as output, Machine(config) as machine:
        reads = where == "stdio"
        with Raw(sys.stdin.fileno()) if reads else _nothing() as terminal:
            keys = terminal is not None and terminal.is_terminal
            if keys:
                print("corral: Ctrl-A X ends the guest, Ctrl-A H helps", end="\r\n", file=sys.stderr)
            console = Console(output, sys.stdin.fileno() if reads else None, keys)
            outcome = machine.run(console, timeout)
        return _conclude(outcome, machine, console, timeout)


def _config(arguments: Arguments, kind: Kind, memory: int, cpus: int) -> MachineConfig:
    """What to boot: the user's kernel, or the one that this host serves best."""
    kernel = arguments.operands[0] if arguments.operands else None
    initrd = arguments.values.get("initrd")
    parameters: list[str] = []
    if kernel is None:
        kernel, why, parameters = _default_kernel(kind, cpus)
        print(f"corral: {why}", file=sys.stderr)
    elif _is_linux(kernel):
        from corral.guests import parameters as defaults

        parameters = [defaults.for_kind(kind, stock=True)]
    else:
        initrd = initrd or "none"
    if arguments.rest:
        import shlex
        from urllib.parse import quote

        parameters.append(f"corral.run={quote(shlex.join(arguments.rest))}")
    if arguments.values.get("append"):
        parameters.append(arguments.values["append"])
    if initrd is None:
        from corral.guests import initramfs

        initrd = _with_progress(lambda progress: initramfs.path(progress))
    return MachineConfig(
        kernel=kernel,
        initrd=None if initrd == "none" else initrd,
        cmdline=" ".join(parameters),
        memory=memory,
        cpus=cpus,
    )


def _is_linux(kernel: str) -> bool:
    from corral import boot

    with boot.open_kernel(kernel) as file:
        return file.kind in ("bzImage", "vmlinux")


def _default_kernel(kind: Kind, cpus: int) -> tuple[str, str, list[str]]:
    """Path, one line that says which and why, and Corral's own parameters for it."""
    from corral.guests import kernel, parameters

    if kind is Kind.HARDWARE:
        found = _with_progress(lambda progress: kernel.get("stock", progress))
        why = f"Linux {found.version}, the distribution's own kernel: this host's KVM runs it at full speed"
    else:
        found = _with_progress(lambda progress: kernel.get(kernel.variant(cpus), progress))
        why = f"Linux {found.version}, Corral's small kernel: this KVM interprets kernel code (see corral doctor)"
    return found.path, why, [parameters.for_kind(kind, stock=kind is Kind.HARDWARE)]


def _with_progress(work: Callable[[Callable[[str], None]], T]) -> T:
    from corral.cli.terminal import Progress

    progress = Progress()
    try:
        return work(progress)
    finally:
        progress.done()


def _conclude(outcome: Outcome, machine: Machine, console: Console, timeout: float | None) -> int:
    if outcome.over is Over.TIMEOUT:
        raise GuestTimeout(f"the guest did not end within {timeout:g} s and was stopped")
    if outcome.over is Over.CLOSED:
        return 141
    if outcome.cause is not None and not outcome.cause.clean:
        from corral.toolkit import death_report

        print(death_report.text(machine, outcome), file=sys.stderr)
        return 4
    return outcome.status


class _Output:
    """The descriptor that the console writes to: None, standard output, or a file that is made."""

    def __init__(self, where: str) -> None:
        self._file = None
        self._descriptor: int | None = None
        if where == "stdio":
            self._descriptor = sys.stdout.fileno()
        elif where.startswith("file:"):
            path = where.removeprefix("file:")
            try:
                # O_NONBLOCK: a FIFO that nobody reads must not hold us up.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
                self._file = self._descriptor = os.open(path, flags, 0o666)
            except OSError as error:
                raise ConfigError(f"--console: cannot write {path!r}: {error.strerror}; name another file") from error

    def __enter__(self) -> int | None:
        return self._descriptor

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            os.close(self._file)


class _nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        return None


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ConfigError(f"{name} {text!r} is not a number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise ConfigError(f"--timeout {text!r} is not a time in seconds; write it like 30 or 0.5")
    return seconds
