"""corral boot: a guest on this terminal."""

from __future__ import annotations

import os
import sys

from corral.chassis import Chassis
from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse
from corral.config import MachineConfig, parse_disk, parse_size
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.kvm.system import Kind, host_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from corral.machine import Machine, Outcome

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
        Option("memory", "SIZE", "guest memory, like 512M or 6G (default: 512M, less on a pagetable KVM)"),
        Option("cpus", "N", "virtual CPUs, 1 to 64 (default: 1)"),
        Option("disk", "PATH[,...]", "a raw image or block device; may be repeated; see below"),
        Option("root", "N", "the disk with the root file system: number, id or 'none' (default: 0)"),
        Option("acpi", "auto|on|off", "how a guest learns of its CPUs and disks (default: auto); see below"),
        Option("console", "WHERE", "stdio, none, or file:PATH (default: stdio)"),
        Option("stats", "", "at the end, what disks and console did, on standard error"),
        Option("timeout", "S", "end the guest after S seconds, with exit status 124"),
    ),
    epilog="""\
examples:
  corral boot                                a shell in Linux
  corral boot -- uname -a                    one program; its exit status is corral's
  corral boot -- 'dmesg | tail -n 3'         one line for the guest's shell
  echo 'cat /proc/cpuinfo' | corral boot     a script
  corral boot ./vmlinux --append debug       your kernel
  corral boot ./vmlinuz --initrd my.cpio --memory 2G --console file:boot.log --timeout 60
  corral boot --disk rootfs.img              the system that is on the image
  corral boot --disk base.img,snapshot=on    the same, and the image stays as it is
  corral boot --root none --disk data.img -- 'mkdir /mnt && mount /dev/vda /mnt && ls /mnt'

--disk takes after the path: ro; snapshot=on (writes are gone with the guest); cache=writeback, direct (past
  the host's page cache) or writethrough; serial=S; id=NAME; ops=N and bytes=SIZE (limits per second);
  format=raw (it is raw although it begins like another format)

--acpi: 'on' gives ACPI tables, by which a distribution's kernel finds CPUs and disks and powers off;
  'off' an MP table and kernel parameters alone, for a kernel that was built without ACPI; 'auto' is on, but
  off for Corral's small kernel, which has no ACPI, and on a KVM that interprets kernel code: slow there

exit status: what COMMAND, or the shell, ended with; 0 when the guest shut down or reset without a word;
  2 bad usage or input; 3 the host lacks something; 4 the guest died; 124 timeout""",
)

LONGEST_TIMEOUT = 10**9
ABSURD = 16  # times the host's memory: its page structures alone would fill a quarter of that
SLOW = "this KVM interprets kernel code: a distribution's kernel boots in 15 minutes here, Corral's in seconds"
NO_READER = 141  # as a shell tells of SIGPIPE
QUIT = 130  # as a shell tells of Ctrl-C


def run(words: list[str], watch: Callable[[Machine], AbstractContextManager[object]] | None = None) -> int:
    """`watch` is given the machine before it starts, and its end after it has stopped."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    timeout = seconds(arguments.values["timeout"]) if "timeout" in arguments.values else None
    where = arguments.values.get("console", "stdio")
    terminal.leave_on_signals()
    # What is wrong with the command line is told before anything is fetched, built or written.
    notices: list[str] = []
    machine_alone = _machine_alone(arguments, notices)
    acpi = _acpi(arguments)
    with _Output(where) as output:
        chassis = Chassis()
        try:
            # Imported while the host's kernel is busy with the chassis.
            from corral.console import Console
            from corral.machine import Machine

            config = _with_kernel(arguments, machine_alone, acpi, notices)
        except BaseException:
            chassis.close()
            raise
        with Machine(config, chassis) as machine:
            person = where == "stdio" and os.isatty(0)
            if person:
                notices.append("Ctrl-A X ends the guest, Ctrl-A H helps")
            for notice in notices:
                print(f"corral: {notice}", file=sys.stderr)
            with terminal.Raw(0 if person else None):
                input = 0 if where == "stdio" else None
                console = Console(output, input, keys=(2 if os.isatty(2) else 0) if person else None)
                if watch:
                    with watch(machine):
                        outcome = machine.run(console, timeout)
                else:
                    outcome = machine.run(console, timeout)
            if "stats" in arguments.values:
                from corral.toolkit import counters

                print(counters.text(machine), file=sys.stderr)
            tail = b"" if where == "stdio" else console.tail
            return _conclude(outcome, machine, arguments, timeout, tail)


def configure(words: list[str]) -> MachineConfig | None:
    """The machine that a command line asks for, without running it; None when it asks for help."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return None
    notices: list[str] = []  # a script has not asked for them
    return _with_kernel(arguments, _machine_alone(arguments, notices), _acpi(arguments), notices)


def _machine_alone(arguments: Arguments, notices: list[str]) -> MachineConfig:
    """The machine that was asked for, without its kernel."""
    values = arguments.values
    from corral.guests.default import MEMORY

    memory = parse_size(values["memory"]) if "memory" in values else MEMORY[host_kind()]
    disks = tuple(parse_disk(text) for text in arguments.every.get("disk", []))
    config = MachineConfig(kernel="", memory=memory, cpus=number(values.get("cpus", "1"), "--cpus"), disks=disks)
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    amounts = f"--memory {memory / (1 << 30):g} GiB: this host has {host / (1 << 30):.1f} GiB"
    if memory > ABSURD * host:
        raise ConfigError(f"{amounts}; ask for less")
    if memory > host:
        notices.append(f"{amounts}; a guest that uses all of it is killed")
    return config


def _with_kernel(arguments: Arguments, machine: MachineConfig, acpi: bool | None, notices: list[str]) -> MachineConfig:
    """The same machine with what it boots: the user's kernel, or the one that this host serves best."""
    from corral.guests import parameters

    kind = host_kind()
    initrd = arguments.values.get("initrd")
    cmdline: list[str] = []
    root = _root(arguments, machine)
    if not arguments.operands:
        from corral.guests.default import choose

        choice = choose(kind, machine.cpus, bool(machine.disks), acpi is not False)
        with terminal.Progress() as progress:
            found = choice.get(progress)
        notices.append(f"Linux {found.version}, {choice.why}")
        kernel = found.path
        acpi = parameters.has_acpi(kind, choice.stock) if acpi is None else acpi
        cmdline.append(parameters.for_kind(kind, choice.stock, acpi))
    else:
        kernel = arguments.operands[0]
        if _is_linux(kernel):
            small = _is_ours(kernel)
            if kind is Kind.PAGETABLE and not small:
                notices.append(SLOW)
            acpi = parameters.has_acpi(kind, stock=not small) if acpi is None else acpi
            cmdline.append(parameters.for_kind(kind, not small, acpi))
        else:
            initrd = initrd or "none"
    if machine.disks and not acpi:
        cmdline.append(parameters.for_disks(len(machine.disks)))
    if root is not None:
        cmdline.append(parameters.for_root(root))
        initrd = initrd or "none"
    if arguments.rest:
        cmdline.append(parameters.for_command(arguments.rest))
    if arguments.values.get("append"):
        cmdline.append(arguments.values["append"])
    if initrd is None:
        from corral.guests import initramfs

        with terminal.Progress() as progress:
            initrd = initramfs.path(progress)
    return MachineConfig(
        kernel=kernel,
        initrd=None if initrd == "none" else initrd,
        cmdline=" ".join(cmdline),
        memory=machine.memory,
        cpus=machine.cpus,
        disks=machine.disks,
        acpi=bool(acpi),
    )


def _acpi(arguments: Arguments) -> bool | None:
    """None: whatever suits the kernel and this host."""
    wanted = arguments.values.get("acpi", "auto")
    if wanted not in _ACPI:
        raise ConfigError(f"--acpi {wanted!r} is none of {', '.join(_ACPI)}")
    return _ACPI[wanted]


_ACPI = {"auto": None, "on": True, "off": False}


def _root(arguments: Arguments, machine: MachineConfig) -> int | None:
    """The number of the disk with the root file system. A command needs Corral's init, so it has no such disk."""
    wanted = arguments.values.get("root", "none" if arguments.rest or not machine.disks else "0")
    if wanted == "none":
        return None
    names = [disk.id for disk in machine.disks]
    index = names.index(wanted) if wanted in names else number(wanted, "--root")
    if index >= len(machine.disks):
        raise ConfigError(f"--root {index}: there are {len(machine.disks)} disks, and the first is number 0")
    if arguments.rest:
        raise ConfigError("a command runs in Corral's own initramfs, not in a disk's system; leave --root or it out")
    return index


def _is_linux(kernel: str) -> bool:
    from corral import boot

    with boot.open_kernel(kernel) as file:
        return file.kind in ("bzImage", "vmlinux")


def _is_ours(kernel: str) -> bool:
    """Whether it is a kernel that Corral built."""
    from corral.guests import cache

    return os.path.realpath(kernel).startswith(os.path.realpath(cache.folder("kernels")) + os.sep)


def _conclude(
    outcome: Outcome, machine: Machine, arguments: Arguments, timeout: float | None, console_tail: bytes
) -> int:
    """The exit status, and the words that go with it."""
    from corral.console import Over
    from corral.exits import Cause

    if outcome.over is Over.TIMEOUT:
        raise GuestTimeout(f"the guest did not end within {timeout:g} s and was stopped")
    if outcome.over is Over.CLOSED:
        return NO_READER
    if outcome.cause is not None and not outcome.cause.clean:
        from corral.toolkit import death_report

        print(death_report.text(machine, outcome, console_tail), file=sys.stderr)
        return GuestError.exit_status
    if outcome.over is Over.QUIT:
        print(file=sys.stderr)  # the guest left the cursor anywhere
    # A panic resets, and who powers off means it.
    if outcome.status is None and arguments.rest and outcome.cause is not Cause.POWER_OFF:
        if outcome.over is Over.QUIT:
            return QUIT
        raise GuestError("the guest ended without telling the exit status of its command; see its console for why")
    return outcome.status or 0


class _Output:
    """The descriptor that the console writes to: None, standard output, or a file that is made."""

    def __init__(self, where: str) -> None:
        self._descriptor: int | None = None
        if where == "stdio":
            # A terminal that does not take everything at once would block the write of the rest.
            self._descriptor = terminal.writer(1) if os.isatty(1) else 1
        elif where.startswith("file:"):
            path = where.removeprefix("file:")
            try:
                # O_NONBLOCK: a FIFO that nobody reads must not hold us up.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
                self._descriptor = os.open(path, flags, 0o666)
            except OSError as error:
                raise ConfigError(f"--console: cannot write {path!r}: {error.strerror}; name another file") from error
        elif where != "none":
            raise ConfigError(f"--console {where!r} is none of stdio, none, file:PATH")

    def __enter__(self) -> int | None:
        return self._descriptor

    def __exit__(self, *exception: object) -> None:
        if self._descriptor not in (None, 1):
            os.close(self._descriptor)


def number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ConfigError(f"{name} {text!r} is not a number")
    return int(text)


def seconds(text: str, name: str = "--timeout") -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= LONGEST_TIMEOUT:
        raise ConfigError(f"{name} {text!r} is not a time in seconds; write it like 30 or 0.5")
    return value
