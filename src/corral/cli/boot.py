"""corral boot: a guest on this terminal."""

from __future__ import annotations

import os
import sys
import time

from corral import voice
from corral.cli import complaints, terminal
from corral.cli import jail as jails
from corral.cli import session as sessions
from corral.cli.boot_request import from_arguments
from corral.cli.ending import Closing, conclude, died
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.cli.session import Ends
from corral.cli.told import Told
from corral.core.shell import asked_for
from corral.launch.draft import Draft, draft
from corral.launch.events import Notice
from corral.launch.request import NAMES
from corral.startup import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from corral.backends.channel import Channel
    from corral.backends.console import Console
    from corral.cli.detached import Named
    from corral.cli.jail import Jail
    from corral.cli.report import DeathReport
    from corral.config import MachineConfig
    from corral.core.exits import Outcome
    from corral.core.shell import Shell
    from corral.launch.request import BootRequest
    from corral.machine import Machine
    from corral.numa.plan import Plan

    Watch = Callable[[Machine], AbstractContextManager[object]]

NETS = ("user", "tap", "socket", "none", "mac", "mtu", "ip", "shared")

COMMAND = Command(
    name="boot",
    summary="""\
Boots KERNEL (a vmlinux, a bzImage, a PVH executable, a Multiboot kernel), a distribution (debian,
debian:trixie, ubuntu:noble), this host's own kernel and files ("host"), or without one the Linux that
suits this host best, on this terminal.
Ctrl-A X ends the guest, Ctrl-A H helps. At the end of its standard input the guest's shell ends, and
with it the guest.""",
    operands=("KERNEL",),
    words=NAMES,
    rest="COMMAND...",
    options=(
        Option("initrd", "FILE", "initramfs; 'none' for none; without this option Corral's own"),
        Option("module", "FILE[=WORDS]", "a file for a PVH or Multiboot kernel; may be repeated"),
        Option("protocol", "NAME", "how it is entered: linux, pvh, multiboot, multiboot2 (default: what suits)"),
        Option("flat", "MODE@ADDRESS", "KERNEL is raw code, like real@0x7c00 or long@0x200000[,entry=0x200040]"),
        Option("bios", "", "start as a PC does, with SeaBIOS: from the first disk, or KERNEL (iPXE, memdisk)"),
        Option("append", "STR", "kernel parameters, after Corral's own: the last one counts"),
        Option(
            "memory", "SIZE", "guest memory, like 512M or 6G (default: 512M; 128M where KVM interprets kernel code)"
        ),
        Option("cpus", "N|SHAPE", "virtual CPUs, 1 to 64, or sockets=S,cores=C,threads=T (default: 1)"),
        Option("numa", "POLICY", "NUMA nodes: auto, none, compact, spread, nodes=N or a map (default: auto)"),
        Option("pin", "WHERE", "the host's CPUs: auto, none, 0-3,8-11 or 0=3,1=8-9 (default: auto)"),
        Option("hugepages", "2M|1G|thp", "memory in huge pages: from the host's pool, or transparent ones"),
        Option("prealloc", "", "take all memory at the start"),
        Option("plan", "", "print where vCPUs and memory would be, and end"),
        Option("plan-json", "", "the same for programs"),
        Option("disk", "PATH[,...]", "a raw image or block device; may be repeated; see below"),
        Option("share", "PATH[,...]", "a folder for the guest, read-only unless ,rw; may be repeated; see below"),
        Option("net", "[KIND][,...]", "a network card; user (default), tap, socket, shared; see below", begins=NETS),
        Option("publish", "PORT:PORT", "a port of the host that leads to one of the guest's; may be repeated"),
        Option("allow", "HOST[:PORT]", "the guest may connect there, and nowhere else; may be repeated; see below"),
        Option("deny", "HOST[:PORT]", "the guest may not connect there; may be repeated"),
        Option("net-dump", "FILE", "all frames of the network card, as pcapng: 1G of them, or FILE,size=SIZE"),
        Option("vsock", "PATH[,cid=N]", "connections with the guest by the socket PATH; see corral help vsock"),
        Option("balloon", "", "memory that the guest has used and freed goes back to the host"),
        Option("cloud-init", "FILE", "user-data for a cloud image, on a seed disk after the others"),
        Option("hostname", "NAME", "for cloud-init: the guest's name"),
        Option("ssh-key", "FILE", "for cloud-init: public keys that may log in, like ~/.ssh/id_ed25519.pub"),
        Option("restore", "FILE", "go on from what corral snapshot saved, a file or the URL of a store"),
        Option("overlay", "", "with --restore: what it writes to disks is gone with it, and images stay as they are"),
        Option("fresh", "", "boot, also where the boot cache has a guest that has booted"),
        Option("root", "N", "the disk with the root file system: number, id or 'none' (default: 0)"),
        Option("early", "", "show all that Linux says, from the first line on"),
        Option("acpi", "auto|on|off", "how a guest learns of its CPUs and disks (default: auto); see below"),
        Option("debug-exit", "PORT", "writing V there ends the guest, exit status (V << 1) | 1; QEMU's: 0xf4"),
        Option("nested", "", "the guest may run guests itself: it sees the CPU's VMX or SVM"),
        Option("console", "WHERE", "stdio, stderr, none, or file:PATH[,size=SIZE] (default: stdio); see below"),
        Option("tty", "", "a terminal for COMMAND or the shell, also where standard input or output is none"),
        Option("gdb", "PATH", "the guest waits for gdb at this socket; tcp:PORT is open to every user of this host"),
        Option("report", "FILE", "if the guest dies: all about it; its last exits are kept for that"),
        Option("screen", "", "at the end, what the guest wrote to a PC's text screen, on standard error"),
        Option("stats", "", "at the end, what disks, shares and console did, on standard error"),
        Option("kernel", "NAME", "small, Corral's own; of a distribution cloud, generic; of a --disk image: its own"),
        Option("jail", "on|off|report", "give up all rights before the guest runs, or tell what that would refuse"),
        Option("limit-cpu", "N", "CPUs' worth of time, like 1.5, for the guest and all that serves it; see below"),
        Option("limit-memory", "SIZE", "memory, the guest's and Corral's together"),
        Option("limit-io", "PATH,...", "of the device that has PATH: rbps=, wbps= (bytes), riops=, wiops= a second"),
        Option("yes", "", "as root: install by apt-get, unasked, what a kernel or a distribution is made with"),
        Option("grace", "S", "when asked from outside to end, let the guest shut down for S seconds; see below"),
        Option("name", "NAME", "by which corral exec, stop and others find it; see corral help background"),
        Option("detach", "", "in the background: returns when the guest runs; needs --name"),
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
  corral boot -- tar c /bin | tar t          its standard output and error are ours, byte for byte
  corral boot debian                         Debian with its own kernel and systemd; made the first time
  corral boot debian -- systemctl            one command there, when it is up
  corral boot host -- make check             this host's own kernel and files, here; they stay as they are
  corral boot --disk rootfs.img              the system that is on the image
  corral boot --disk base.img,snapshot=on    the same, and the image stays as it is
  corral boot --net -- wget -O - http://example.org/    a network, with your connections
  corral boot --net --publish 8080:80        port 80 of the guest as 8080 of this host
  corral boot --restore shell.snapshot       what corral snapshot saved, at once
  corral boot --root none --disk data.img -- 'mkdir /mnt && mount /dev/vda /mnt && ls /mnt'

--disk takes after the path: ro; snapshot=on (writes are gone with the guest), layer=SIZE (the most of them);
  cache=writeback, direct (past the host's page cache) or writethrough; serial=S; id=NAME; ops=N, bytes=SIZE
  (limits per second); format=raw (whatever it begins like); lock=off (though another has locked it)

--share takes after the path: rw; tag=NAME (default: share); the guest mounts it by that:
  mount -t 9p -o trans=virtio share /mnt
  It may do there what you may, and no more than the folder holds

--net: 'user' is the network as you have it, by passt: TCP and UDP go out as yours, and 10.0.2.2 is this
  host; nothing comes in but by --publish. shared=NAME is a network of guests of yours, which find each other
  by name. tap=NAME is a tap device, socket=PATH a Unix socket with QEMU's framing; ,listen awaits the other
  end. After it may come ,mac=MAC ,mtu=N and, of tap and socket, ,ip=ADDRESS/PREFIX. May be repeated

--publish: 8080:80, 8053:53/udp, 0.0.0.0:8080:80; without an address at 127.0.0.1, for this host alone

--allow and --deny: example.org:443, 10.0.0.0/8, [fd00::1]:80-90, host:8080 (this host), all. They are held
  outside of the guest. With an --allow all else is denied, the resolver too but for the names that are
  allowed; names are looked up once, at the start. --deny wins. What came in by --publish may be answered

--console: where what the guest's kernel and init say goes, of a file 1G or SIZE. COMMAND, and a script from a
  pipe, have our standard input, output and error, apart and byte for byte; then 'stdio' is nowhere (its end
  is told if something goes wrong). At a terminal, and with --tty, they work on the console.

--acpi: 'on' gives ACPI tables, by which a distribution's kernel finds CPUs and disks and powers off;
  'off' an MP table and kernel parameters alone, for a kernel that was built without ACPI; 'auto' is on, but
  off for Corral's small kernel, which has no ACPI, and on a KVM that interprets kernel code: slow there

--grace: Ctrl-A X and SIGTERM press the guest's power button first (without ACPI: hang up its serial line),
  and end the guest S seconds later, or when asked again; a distribution has 15, others end at once

--numa: 'auto' puts vCPUs and memory on as few of the host's nodes as hold them and shows the guest those,
  'spread' on all; a map like 0-3@0:2G/4-7@1 has vCPUs 0 to 3 on the host's node 0 with 2 GiB, the others
  on node 1 with the rest. On a host with one node nothing is placed unless it is asked for.

--limit-cpu, --limit-memory and --limit-io need a control group (v2) that is yours, as one of
  systemd-run --user --scope -p Delegate=yes; without one a notice says so, and there is no limit

exit status: what COMMAND, or the shell, ended with; 0 when the guest shut down or reset without a word;
  2 bad usage or input; 3 the host lacks something; 4 the guest died; 124 timeout""",
)


def run(words: list[str], watch: Watch | None = None, modules: Sequence[str] = (), unjailed: str = "") -> int:
    """`watch` is given the machine before it starts, and its end after it has stopped; it needs `modules` by then.
    `unjailed`: what of it opens files while the guest runs."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    values = arguments.values
    jail = jails.allowed(jails.wanted(values.get("jail")), unjailed)
    if jail:
        jail.needs(*modules)
    if "detach" in values:
        from corral.cli import detached

        return detached.start(arguments, words)
    terminal.leave_on_signals()
    if "name" in values:
        from corral.cli import detached

        return detached.run_named(arguments, words, lambda named: run_here(arguments, watch, jail, named))
    return run_here(arguments, watch, jail, None)


def run_here(
    arguments: Arguments,
    watch: Watch | None,
    jail: Jail | None,
    named: Named | None,
    request: BootRequest | None = None,
) -> int:
    """`request`: what to boot, where that is not in the arguments."""
    values = arguments.values
    if "timeout" in values:
        voice.wait_until(time.monotonic() + seconds(values["timeout"]) + voice.HURRY)
    # What is wrong with the command line is told before anything is fetched, built or written.
    told = Told()
    request = request or from_arguments(arguments, sessions.wanted(arguments))
    wanted = draft(named.request(request) if named else request, told)
    if "gdb" in values:
        from corral.cli import gdb

        watch = gdb.watch(values["gdb"], watch, told.notices, jail)
        if jail:
            jail.admits_debugger()
    if named and jail:
        jail.admits_programs()
    limited = None
    if any(name.startswith("limit-") for name in values):
        from corral.cli import limits

        limited = limits.wanted(arguments)
    report = None
    if "report" in values:
        from corral.cli.report import DeathReport

        report = DeathReport(values["report"])
        watch = report.watch(watch)
    of_host = wanted.machine.disks or wanted.machine.shares or wanted.machine.others
    if (of_host or wanted.is_named) and not request.container:
        from corral.launch.judge import judge

        judge(wanted)
    if wanted.is_named:
        from corral.launch.configure import resolved

        with told.progress:
            wanted = resolved(wanted, told)
    if jail:
        jail.prepare(report.path if report else "", arguments, limited, bool(watch or named or "net-dump" in values))

    def start(plan: Plan | None) -> int:
        if limited is None:
            return _boot(arguments, wanted, plan, told, watch, report, jail, named)
        with limited.enter(told.notices):
            return _boot(arguments, wanted, plan, told, watch, report, jail, named)

    # A script's standard error is its command's.
    told.quiet = bool(request.container) or (wanted.machine.channel == "pipes" and not os.isatty(2))
    placement = wanted.placement()
    if placement is None:
        return start(None)
    from corral.numa.claims import Claims
    from corral.numa.host import read

    with Claims() as claims:
        plan = claims.place(read(), placement)
        if "plan" not in values and "plan-json" not in values:
            return start(plan)
        from corral.numa.as_json import to_json
        from corral.numa.plan import table

        print(table(plan) if "plan" in values else to_json(plan))
        return 0


def _boot(
    arguments: Arguments,
    wanted: Draft,
    plan: Plan | None,
    told: Told,
    watch: Watch | None,
    report: DeathReport | None,
    jail: Jail | None,
    named: Named | None,
) -> int:
    values, container = arguments.values, wanted.request.container is not None
    has_input = not container or "interactive" in values
    timeout = seconds(values["timeout"]) if "timeout" in values else None
    with jails.Settled(jail), Ends(values.get("console", "stdio"), "early" in values, has_input) as ends:
        ends.log = named.open_log() if named and container else None
        shell = asked_for(wanted.machine.memory, plan.page if plan else 0, wanted.machine.split_irqchip)
        try:
            # Imported while the host's kernel is busy with the VM.
            from corral.backends.console import Console

        except BaseException:
            shell.close()
            raise
        anew = "fresh" in values or watch is not None or plan is not None
        with Closing(_machine(wanted, plan, shell, ends, told, anew, jail)) as machine:
            if ends.person:
                told.notices.append("Ctrl-A X ends the guest, Ctrl-A H helps")
            for notice in told.notices:
                print(f"corral: {notice}", file=sys.stderr)
            with terminal.Raw(0 if ends.person else None):
                keys = (2 if os.isatty(2) else 0) if ends.person else None
                console = Console(ends.console, ends.input, keys, machine.channel)
                console.room, console.may_end_early = ends.room, ends.console is None and watch is None
                if ends.person:
                    from corral.cli import about

                    about.attach(console, machine, arguments)
                if named:
                    named.attach(machine, console)
                if jail:
                    watch = jail.watch(watch)
                if container:
                    from corral.cli.forwarded import forward

                    forward(machine)
                outcome = _run(machine, console, timeout, watch, wanted.request.grace or 0.0)
            for line in complaints.of(machine, console):
                print(f"corral: {line}", file=sys.stderr)
            if "screen" in values:
                from corral.debug import text_screen

                print(text_screen.text(machine.memory), file=sys.stderr)
            if "stats" in values:
                from corral.observe import counters

                print(counters.text(machine), file=sys.stderr)
                print(jail.text() if jail else "jail: none", file=sys.stderr)
            if died(outcome, console.tail):
                from corral.cli import death

                return death.report(outcome, machine, console.tail, ends.shows_console, report, jail)
            if report:
                from corral.cli import death

                death.report_reset(outcome, machine, console.tail, report, jail)
            return conclude(
                outcome, container or bool(arguments.rest), timeout, b"" if ends.shows_console else console.tail
            )


def _machine(
    wanted: Draft, plan: Plan | None, shell: Shell, ends: Ends, told: Told, anew: bool, jail: Jail | None
) -> Machine:
    """`anew`: it is to boot in any case."""

    def configured() -> MachineConfig:
        from corral.launch.configure import with_kernel

        with told.progress:
            return with_kernel(wanted, plan, told)

    def channel(config: MachineConfig) -> Channel | None:
        if jail:
            jail.begin()
        return ends.open_channel(config.channel, config.command, wanted.request.hostname)

    if not anew and ends.is_plain and wanted.request.kernel is None:
        bundle.imported("corral.launch.boot_cache")
        from corral.launch import boot_cache

        if boot_cache.serves(wanted):
            machine, goes_on = boot_cache.machine(wanted, shell, configured, channel)
            if goes_on:
                told(Notice("goes on from an earlier start; --fresh boots", routine=True))
            return machine
    from corral.machine import Machine

    try:
        config = configured()
        opened = channel(config)
    except BaseException:
        shell.close()
        raise
    return Machine(config, shell, opened)


def _run(machine: Machine, console: Console, timeout: float | None, watch: Watch | None, grace: float) -> Outcome:
    if grace:
        from corral.cli.farewell import Farewell

        with Farewell(machine, console, grace):
            return _run(machine, console, timeout, watch, 0.0)
    if watch:
        with watch(machine):
            if machine.started:  # and paused, for what counts its threads
                machine.resume()
            return machine.run(console, timeout)
    return machine.run(console, timeout)


def machine_config(words: list[str], session: str = "") -> MachineConfig | None:
    """The machine that a command line asks for, without running it; None when it asks for help. `session` is what it
    has by the channel; with --tty a terminal."""
    from corral.launch.configure import configure

    arguments = parse(COMMAND, words)
    if arguments is None:
        return None
    return configure(from_arguments(arguments, sessions.TERMINAL if "tty" in arguments.values else session))
