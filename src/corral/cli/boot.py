"""corral boot: a guest on this terminal."""

from __future__ import annotations

import os
import sys

from corral.chassis import Chassis
from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse
from corral.config import DiskConfig, MachineConfig, parse_disk, parse_share, parse_size
from corral.errors import ConfigError, GuestError, GuestTimeout
from corral.kvm.system import host_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from corral.boot.preflight import Report
    from corral.cli.report import DeathReport
    from corral.console import Console
    from corral.machine import Machine, Outcome
    from corral.numa.plan import Plan
    from corral.numa.request import Request, Shape

COMMAND = Command(
    name="boot",
    summary="""\
Boots KERNEL (a vmlinux, a bzImage, a PVH executable, a Multiboot kernel), a distribution (debian,
debian:trixie, ubuntu:noble), this host's own kernel and files ("host"), or without one the Linux that
suits this host best, on this terminal.
Ctrl-A X ends the guest, Ctrl-A H helps. At the end of its standard input the guest's shell ends, and
with it the guest.""",
    operands=("KERNEL",),
    rest="COMMAND...",
    options=(
        Option("initrd", "FILE", "initramfs; 'none' for none; without this option Corral's own"),
        Option("module", "FILE[=WORDS]", "a file for a PVH or Multiboot kernel; may be repeated"),
        Option("protocol", "NAME", "how it is entered: linux, pvh, multiboot, multiboot2 (default: what suits)"),
        Option("flat", "MODE@ADDRESS", "KERNEL is raw code, like real@0x7c00 or long@0x200000[,entry=0x200040]"),
        Option("bios", "", "start as a PC does, with SeaBIOS: from the first disk, or KERNEL (iPXE, memdisk)"),
        Option("append", "STR", "kernel parameters, after Corral's own: the last one counts"),
        Option("memory", "SIZE", "guest memory, like 512M or 6G (default: 512M, less on a pagetable KVM)"),
        Option("cpus", "N|SHAPE", "virtual CPUs, 1 to 64, or sockets=S,cores=C,threads=T (default: 1)"),
        Option("numa", "POLICY", "NUMA nodes: auto, none, compact, spread, nodes=N or a map (default: auto)"),
        Option("pin", "WHERE", "the host's CPUs: auto, none, 0-3,8-11 or 0=3,1=8-9 (default: auto)"),
        Option("hugepages", "2M|1G|thp", "memory in huge pages: from the host's pool, or transparent ones"),
        Option("prealloc", "", "take all memory at the start"),
        Option("plan", "", "print where vCPUs and memory would be, and end"),
        Option("plan-json", "", "the same for programs"),
        Option("disk", "PATH[,...]", "a raw image or block device; may be repeated; see below"),
        Option("share", "PATH[,...]", "a folder for the guest, read-only unless ,rw; may be repeated; see below"),
        Option("cloud-init", "FILE", "user-data for a cloud image, on a seed disk after the others"),
        Option("hostname", "NAME", "for cloud-init: the guest's name"),
        Option("ssh-key", "FILE", "for cloud-init: public keys that may log in, like ~/.ssh/id_ed25519.pub"),
        Option("root", "N", "the disk with the root file system: number, id or 'none' (default: 0)"),
        Option("early", "", "show all that Linux says, from the first line on"),
        Option("acpi", "auto|on|off", "how a guest learns of its CPUs and disks (default: auto); see below"),
        Option("debug-exit", "PORT", "writing V there ends the guest, exit status (V << 1) | 1; QEMU's: 0xf4"),
        Option("nested", "", "the guest may run guests itself: it sees the CPU's VMX or SVM"),
        Option("console", "WHERE", "stdio, none, or file:PATH (default: stdio)"),
        Option("gdb", "WHERE", ":PORT (of the loopback interface) or unix:PATH; the guest waits there for gdb"),
        Option("report", "FILE", "if the guest dies: all about it; its last exits are kept for that"),
        Option("screen", "", "at the end, what the guest wrote to a PC's text screen, on standard error"),
        Option("stats", "", "at the end, what disks, shares and console did, on standard error"),
        Option("kernel", "NAME", "of a distribution: cloud, generic, or small, Corral's own (default: by the host)"),
        Option("grace", "S", "when asked from outside to end, let the guest shut down for S seconds; see below"),
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
  corral boot ./kernel.elf --module initrd.tar=words --debug-exit 0xf4 --screen    a kernel of your own making
  corral boot ./vmlinuz --disk cloud.img --cloud-init user-data --hostname web-1 --ssh-key ~/.ssh/id_rsa.pub
  corral boot --bios --disk pc.img           a disk with a boot loader of its own, like GRUB
  corral boot debian                         Debian with its own kernel and systemd; made the first time
  corral boot host -- make check             this host's own kernel and files, here; they stay as they are
  corral boot --disk rootfs.img              the system that is on the image
  corral boot --disk base.img,snapshot=on    the same, and the image stays as it is
  corral boot --root none --disk data.img -- 'mkdir /mnt && mount /dev/vda /mnt && ls /mnt'

--disk takes after the path: ro; snapshot=on (writes are gone with the guest); cache=writeback, direct (past
  the host's page cache) or writethrough; serial=S; id=NAME; ops=N and bytes=SIZE (limits per second);
  format=raw (it is raw although it begins like another format)

--share takes after the path: rw; tag=NAME (default: share); the guest mounts it with the path as aname:
  mount -t 9p -o trans=virtio,aname=/the/path share /mnt
  The guest's kernel needs drivers for it, which Corral's small one has not; it may do there what you may

--acpi: 'on' gives ACPI tables, by which a distribution's kernel finds CPUs and disks and powers off;
  'off' an MP table and kernel parameters alone, for a kernel that was built without ACPI; 'auto' is on, but
  off for Corral's small kernel, which has no ACPI, and on a KVM that interprets kernel code: slow there

--grace: Ctrl-A X and SIGTERM press the guest's power button first (without ACPI: hang up its serial line),
  and end the guest S seconds later, or when asked again; a distribution has 15, others end at once

--numa: 'auto' puts vCPUs and memory on as few of the host's nodes as hold them and shows the guest those,
  'spread' on all; a map like 0-3@0:2G/4-7@1 has vCPUs 0 to 3 on the host's node 0 with 2 GiB, the others
  on node 1 with the rest. On a host with one node nothing is placed unless it is asked for.

exit status: what COMMAND, or the shell, ended with; 0 when the guest shut down or reset without a word;
  2 bad usage or input; 3 the host lacks something; 4 the guest died; 124 timeout""",
)

LONGEST_TIMEOUT = 10**9
ABSURD = 16  # times the host's memory: its page structures alone would fill a quarter of that
NO_READER = 141  # as a shell tells of SIGPIPE
QUIT = 130  # as a shell tells of Ctrl-C


def run(words: list[str], watch: Callable[[Machine], AbstractContextManager[object]] | None = None) -> int:
    """`watch` is given the machine before it starts, and its end after it has stopped."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    terminal.leave_on_signals()
    # What is wrong with the command line is told before anything is fetched, built or written.
    notices: list[str] = []
    machine_alone = _machine_alone(arguments, notices)
    if "gdb" in arguments.values:
        from corral.cli import gdb

        watch = gdb.watch(arguments.values["gdb"], watch, notices)
    report = None
    if "report" in arguments.values:
        from corral.cli.report import DeathReport

        report = DeathReport(arguments.values["report"])
        watch = report.watch(watch)
    if _distribution(arguments):
        from corral.cli import distributions

        arguments = distributions.expand(arguments, notices)
        machine_alone = _machine_alone(arguments, [])
    acpi = _acpi(arguments)
    request = _request(arguments, machine_alone)

    if request is None:
        return _boot(arguments, machine_alone, acpi, None, notices, watch, report)
    from corral.numa.claims import Claims
    from corral.numa.host import read

    with Claims() as claims:
        plan = claims.place(read(), request)
        if "plan" not in arguments.values and "plan-json" not in arguments.values:
            return _boot(arguments, machine_alone, acpi, plan, notices, watch, report)
        from corral.numa.as_json import to_json
        from corral.numa.plan import table

        print(table(plan) if "plan" in arguments.values else to_json(plan))
        return 0


def _boot(
    arguments: Arguments,
    machine_alone: MachineConfig,
    acpi: bool | None,
    plan: Plan | None,
    notices: list[str],
    watch: Callable[[Machine], AbstractContextManager[object]] | None,
    report: DeathReport | None,
) -> int:
    timeout = seconds(arguments.values["timeout"]) if "timeout" in arguments.values else None
    where = arguments.values.get("console", "stdio")
    with _Output(where) as output:
        chassis = Chassis(machine_alone.memory, plan.page if plan else 0)
        try:
            # Imported while the host's kernel is busy with the chassis.
            from corral.console import Console
            from corral.machine import Machine

            config = _with_kernel(arguments, machine_alone, acpi, plan, notices)
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
                grace = seconds(arguments.values["grace"], "--grace") if "grace" in arguments.values else 0.0
                outcome = _run(machine, console, timeout, watch, grace)
            if "screen" in arguments.values:
                from corral.toolkit import text_screen

                print(text_screen.text(machine.memory), file=sys.stderr)
            if "stats" in arguments.values:
                from corral.toolkit import counters

                print(counters.text(machine), file=sys.stderr)
            if _died(outcome, console.tail):
                return _report(outcome, machine, console.tail, where == "stdio", report)
            if report:
                report.of_reset(machine, outcome, console.tail)
            return _conclude(outcome, arguments, timeout)


def _run(
    machine: Machine,
    console: Console,
    timeout: float | None,
    watch: Callable[[Machine], AbstractContextManager[object]] | None,
    grace: float,
) -> Outcome:
    if grace:
        from corral.cli.farewell import Farewell

        with Farewell(machine, console, grace):
            return _run(machine, console, timeout, watch, 0.0)
    if watch:
        with watch(machine):
            return machine.run(console, timeout)
    return machine.run(console, timeout)


def configure(words: list[str]) -> MachineConfig | None:
    """The machine that a command line asks for, without running it; None when it asks for help."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return None
    notices: list[str] = []  # a script has not asked for them
    machine = _machine_alone(arguments, notices)
    if _distribution(arguments):
        from corral.cli import distributions

        arguments = distributions.expand(arguments, notices)
        machine = _machine_alone(arguments, notices)
    request, plan = _request(arguments, machine), None
    if request is not None:  # its CPUs are not claimed: a script takes a corral.numa.claims.Claims for that
        from corral.numa.host import read
        from corral.numa.placement import place

        plan = place(read(), request)
    return _with_kernel(arguments, machine, _acpi(arguments), plan, notices)


def _distribution(arguments: Arguments) -> bool:
    """Whether the operand may name a distribution; told by its first letters, for the module that knows is not loaded
    by others."""
    return bool(arguments.operands) and arguments.operands[0].partition(":")[0] in ("debian", "ubuntu", "host")


def _machine_alone(arguments: Arguments, notices: list[str]) -> MachineConfig:
    """The machine that was asked for, without its kernel."""
    values = arguments.values
    from corral.guests.default import MEMORY

    memory = parse_size(values["memory"]) if "memory" in values else MEMORY[host_kind()]
    disks = tuple(parse_disk(text) for text in arguments.every.get("disk", [])) + _seed(arguments)
    shares = tuple(parse_share(text) for text in arguments.every.get("share", []))
    cpus, _ = _cpus(arguments)
    config = MachineConfig(
        kernel="",
        memory=memory,
        cpus=cpus,
        disks=disks,
        shares=shares,
        nested="nested" in values,
        **_payload(arguments),
    )
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    amounts = f"--memory {memory / (1 << 30):g} GiB: this host has {host / (1 << 30):.1f} GiB"
    if memory > ABSURD * host:
        raise ConfigError(f"{amounts}; ask for less")
    if memory > host:
        notices.append(f"{amounts}; a guest that uses all of it is killed")
    return config


def _payload(arguments: Arguments) -> dict[str, Any]:
    """How the kernel is taken, and what it gets that Linux does not: fields of MachineConfig."""
    values = arguments.values
    if not {"module", "protocol", "flat", "debug-exit"} & values.keys():
        return {}
    from corral.boot import PROTOCOLS, payload

    if not arguments.operands and {"module", "protocol", "flat"} & values.keys():
        raise ConfigError("--module, --protocol and --flat are about a KERNEL of yours; name it")
    if values.get("protocol", "linux") not in PROTOCOLS:
        raise ConfigError(f"--protocol {values['protocol']!r} is none of {', '.join(PROTOCOLS)}")
    if "flat" in values and "protocol" in values:
        raise ConfigError("--flat and --protocol exclude each other: raw code is entered by no protocol")
    port = values.get("debug-exit")
    return {
        "protocol": values.get("protocol"),
        "flat": payload.parse_flat(values["flat"]) if "flat" in values else None,
        "modules": tuple(payload.parse_module(text) for text in arguments.every.get("module", [])),
        "debug_exit": None if port is None else payload.parse_address(port, "--debug-exit"),
    }


def _seed(arguments: Arguments) -> tuple[DiskConfig, ...]:
    """The disk that answers cloud-init's questions, when there is something to answer."""
    user_data, hostname, key = (arguments.values.get(name) for name in ("cloud-init", "hostname", "ssh-key"))
    if user_data is None and hostname is None and key is None:
        return ()
    from corral.guests import cloud_init

    return (DiskConfig(cloud_init.disk(user_data, hostname, key), read_only=True, serial="cidata"),)


def _cpus(arguments: Arguments) -> tuple[int, Shape | None]:
    text = arguments.values.get("cpus", "1")
    if "=" not in text:
        return number(text, "--cpus"), None
    from corral.numa.request import parse_cpus

    return parse_cpus(text)


def _request(arguments: Arguments, machine: MachineConfig) -> Request | None:
    """What is to be placed, and how; None: nothing."""
    cpus, shape = _cpus(arguments)
    asked = {"numa", "pin", "hugepages", "prealloc", "plan", "plan-json"} & arguments.values.keys()
    if not asked and shape is None and not _has_many_nodes():
        return None
    from corral.numa import request

    values = arguments.values
    fields = request.parse_numa(values.get("numa", "auto"), parse_size) | request.parse_pin(values.get("pin", "auto"))
    if "hugepages" in values:
        fields |= request.parse_pages(values["hugepages"])
    return request.Request(cpus=cpus, memory=machine.memory, shape=shape, prealloc="prealloc" in values, **fields)


def _has_many_nodes() -> bool:
    """A look that costs a plain start on a host with one node next to nothing."""
    try:
        with open("/sys/devices/system/node/online", "rb") as file:
            return file.read().strip() != b"0"
    except OSError:
        return False


def _with_kernel(
    arguments: Arguments, machine: MachineConfig, acpi: bool | None, plan: Plan | None, notices: list[str]
) -> MachineConfig:
    """The same machine with what it boots: the user's kernel, or the one that this host serves best."""
    if _wants_bios(arguments, machine):
        from corral.cli import bios

        return bios.configure(arguments, machine, acpi, plan, notices)
    from corral.guests import parameters

    kind = host_kind()
    initrd = arguments.values.get("initrd")
    cmdline = [parameters.EARLY] if "early" in arguments.values else []
    root, partition, stock = _root(arguments, machine), 0, True
    if not arguments.operands:
        from corral.guests.default import choose

        choice = choose(kind, machine.cpus, bool(machine.disks), acpi is not False)
        with terminal.Progress() as progress:
            found = choice.get(progress)
        notices.append(f"Linux {found.version}, {choice.why}")
        kernel, stock = found.path, choice.stock
        acpi = parameters.has_acpi(kind, stock) if acpi is None else acpi
        cmdline.append(parameters.for_kind(kind, stock, acpi))
    else:
        kernel = arguments.operands[0]
        if _is_linux(kernel, machine):
            stock = not is_ours(kernel)
            if stock:
                report = _preflight(arguments, machine, acpi, root)
                notices += [finding.text for finding in report.findings]
                acpi, initrd, partition = report.acpi, report.initrd, report.partition
            elif acpi is None:
                acpi = parameters.has_acpi(kind, stock)
            cmdline.append(parameters.for_kind(kind, stock, acpi))
        elif cmdline:
            raise ConfigError("--early is for Linux, which KERNEL is not; leave it out")
        else:
            initrd = initrd or "none"
    devices = len(machine.disks) + len(machine.shares)
    if devices and not acpi:
        cmdline.append(parameters.for_devices(devices))
    if root is not None:
        cmdline.append(parameters.for_root(root, partition, stock))
        initrd = initrd or "none"
    if initrd != "none":
        cmdline.append(parameters.for_initrd(kind, stock))
    if arguments.rest:
        cmdline.append(parameters.for_command(arguments.rest))
    if arguments.values.get("append"):
        cmdline.append(arguments.values["append"])
    if initrd is None:
        from corral.guests import initramfs

        with terminal.Progress() as progress:
            initrd = initramfs.path(progress)
    if plan and plan.shows_nodes and not acpi:
        notices.append("this guest has no ACPI, so it is not told of its NUMA nodes")
    return MachineConfig(
        kernel=kernel,
        initrd=None if initrd == "none" else initrd,
        cmdline=" ".join(filter(None, cmdline)),
        memory=machine.memory,
        cpus=machine.cpus,
        disks=machine.disks,
        shares=machine.shares,
        acpi=bool(acpi),
        plan=plan,
        protocol=machine.protocol,
        flat=machine.flat,
        modules=machine.modules,
        debug_exit=machine.debug_exit,
        nested=machine.nested,
    )


def _wants_bios(arguments: Arguments, machine: MachineConfig) -> bool:
    """Whether the guest begins with a PC's BIOS: because it is asked for, or because KERNEL cannot do without."""
    if "bios" in arguments.values or not arguments.operands:
        return "bios" in arguments.values
    if machine.flat is not None or machine.protocol is not None:
        return False
    from corral import boot

    return boot.needs_bios(arguments.operands[0])


def _preflight(arguments: Arguments, machine: MachineConfig, acpi: bool | None, root: int | None) -> Report:
    """What suits the user's own Linux, and what it lacks."""
    from corral import boot
    from corral.boot import preflight

    disks = tuple(disk.path for disk in machine.disks)
    plan = preflight.Plan(host_kind(), disks, root, arguments.values.get("initrd"), acpi, machine.cpus)
    with boot.open_kernel(arguments.operands[0], machine.protocol) as kernel:
        return preflight.look(kernel, plan)


def _acpi(arguments: Arguments) -> bool | None:
    """None: whatever suits the kernel and this host."""
    wanted = arguments.values.get("acpi", "auto")
    if wanted not in _ACPI:
        raise ConfigError(f"--acpi {wanted!r} is none of {', '.join(_ACPI)}")
    return _ACPI[wanted]


_ACPI = {"auto": None, "on": True, "off": False}


def _root(arguments: Arguments, machine: MachineConfig) -> int | None:
    """The number of the disk with the root file system. A command needs Corral's init, so it has no such disk."""
    disks = machine.disks[: len(arguments.every.get("disk", []))]  # without cloud-init's
    wanted = arguments.values.get("root", "none" if arguments.rest or not disks else "0")
    if wanted == "none":
        return None
    names = [disk.id for disk in disks]
    index = names.index(wanted) if wanted in names else number(wanted, "--root")
    if index >= len(disks):
        raise ConfigError(f"--root {index}: there are {len(disks)} disks, and the first is number 0")
    if arguments.rest:
        raise ConfigError("a command runs in Corral's own initramfs, not in a disk's system; leave --root or it out")
    return index


def _is_linux(kernel: str, machine: MachineConfig) -> bool:
    from corral import boot

    if machine.flat is not None:
        return False
    with boot.open_kernel(kernel, machine.protocol) as file:
        return file.kind in ("bzImage", "vmlinux")


def is_ours(kernel: str) -> bool:
    """Whether it is a kernel that Corral built."""
    from corral.guests import cache

    return os.path.realpath(kernel).startswith(os.path.realpath(cache.folder("kernels")) + os.sep)


def _died(outcome: Outcome, console_tail: bytes) -> bool:
    """Whether the guest's end was none that it wanted."""
    from corral.exits import Cause

    if outcome.cause is Cause.RESET and outcome.status is None:
        return b"Kernel panic - not syncing" in console_tail
    return outcome.cause is not None and not outcome.cause.clean


def _report(outcome: Outcome, machine: Machine, console_tail: bytes, shown: bool, report: DeathReport | None) -> int:
    from corral.toolkit.report import screen

    text = screen.text(machine, outcome, console_tail, shown)
    print(text, file=sys.stderr)
    if report:
        report.write(machine, outcome, text.partition("\n")[0], console_tail)
        print(f"corral: {report.path} has the whole of it", file=sys.stderr)
    return GuestError.exit_status


def _conclude(outcome: Outcome, arguments: Arguments, timeout: float | None) -> int:
    """The exit status of a guest that did not die, and the words that go with it."""
    from corral.console import Over
    from corral.exits import Cause

    if outcome.over is Over.TIMEOUT:
        raise GuestTimeout(f"the guest did not end within {timeout:g} s and was stopped")
    if outcome.over is Over.CLOSED:
        return NO_READER
    if outcome.over is Over.QUIT:
        print(file=sys.stderr)  # the guest left the cursor anywhere
    # Who powers off means it.
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
