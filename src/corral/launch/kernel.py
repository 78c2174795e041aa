"""What a machine boots: its kernel, the initramfs, and the kernel parameters that go with them."""

from __future__ import annotations

import os

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.errors import ConfigError
from corral.kvm.system import host_kind
from corral.launch.events import Notice, steps
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.launch.draft import Draft
    from corral.launch.events import Tell
    from corral.launch.preflight import Intent, Report
    from corral.numa.plan import Plan


@record(frozen=True)
class Chosen:
    """`stock`: it is not Corral's small kernel. `initrd` is a path, "none", or None for Corral's own. `root` is what
    the kernel is told of its root, "" for nothing. `parameters`: it takes Linux's. `native`: it runs natively on
    this pagetable KVM, by the file `injection` if it needs one. `channel`: it has ports of virtio-console, and the
    initramfs serves them."""

    kernel: str
    stock: bool
    acpi: bool
    initrd: str | None
    root: str = ""
    parameters: bool = True
    ours_first: bool = True
    native: bool = False
    injection: str | None = None
    channel: bool = False


def choose(draft: Draft, tell: Tell) -> Chosen:
    """What was asked for, or else what this host serves best. Raises ConfigError, BootError, HostError."""
    if draft.request.kernel is not None:
        return _named(draft, draft.request.kernel, draft.root, tell)
    return _default(draft, tell)


def configure(draft: Draft, chosen: Chosen, plan: Plan | None, tell: Tell) -> MachineConfig:
    """The draft's machine with what it boots. Raises HostError."""
    request, machine = draft.request, draft.machine
    channel = machine.channel if chosen.channel or request.serves_channel else ""
    words = _parameters(draft, chosen, channel)
    initrd = chosen.initrd
    if initrd is None:
        from corral.guests import initramfs

        initrd = initramfs.path(steps(tell))
    if plan and plan.shows_nodes and not chosen.acpi:
        tell(Notice("this guest has no ACPI, so it is not told of its NUMA nodes"))
    return replace(
        machine,
        kernel=chosen.kernel,
        initrd=None if initrd == "none" else initrd,
        cmdline=" ".join(filter(None, words)),
        acpi=chosen.acpi,
        plan=plan,
        injection=chosen.injection,
        channel=channel,
        command=request.line if channel else None,
    )


def intent(draft: Draft, acpi: bool | None, root: int | None, small: bool) -> Intent:
    """What the preflight is to know of the machine."""
    from corral.launch import preflight

    request, machine = draft.request, draft.machine
    words = request.parameters.split()
    return preflight.Intent(
        host_kind(),
        tuple(disk.path for disk in machine.disks),
        root,
        request.initrd,
        acpi,
        machine.cpus,
        small=small,
        shares=bool(machine.shares),
        own_root=any(word.startswith("root=") for word in words),
        own_init=any(word.startswith(("init=", "rdinit=")) for word in words),
    )


def of_linux(
    path: str,
    protocol: str | None,
    plan: Intent,
    given: str,
    tell: Tell,
    words: tuple[str, ...] = (),
) -> Chosen:
    """A Linux at `path`, with what suits it and the root; `given` are the user's parameters for it, `words` what the
    disk's boot loader says of its root. Raises BootError."""
    from corral import boot
    from corral.launch import natively, preflight

    wanted = not plan.small and natively.wanted(plan.kind, given)
    found = natively.find(path, tell) if wanted else None
    with boot.open_kernel(path, protocol) as kernel:
        report = preflight.look(kernel, plan, found.way if found else natively.Way.NONE)
    for finding in report.findings:
        tell(Notice(finding.text))
    initrd, root = report.initrd, ""
    if plan.root is not None:
        initrd, root = initrd or "none", root_words(plan.root, report, plan.small, words)
    if found is None:
        return Chosen(path, not plan.small, report.acpi, initrd, root)
    return Chosen(found.kernel, not plan.small, report.acpi, initrd, root, native=True, injection=found.injection)


def root_words(disk: int, report: Report, small: bool, words: tuple[str, ...] = ()) -> str:
    """The kernel parameters for the root, the partition that was found, or else what the disk's boot loader says."""
    from corral.guests import parameters

    given = [word for word in words if not word.startswith(("root=", "rootfstype=", "rootflags="))]
    theirs = [word for word in words if word not in given]
    if report.root is not None and report.root.init is None and any(_names_a_root(word) for word in theirs):
        return " ".join([*theirs, *given])
    return " ".join([parameters.for_root(disk, report.partition, not small, report.file_system), *given])


def _names_a_root(word: str) -> bool:
    """Whether it does so by what is on the disk, not by how a disk was called on another machine."""
    return word.startswith("root=") and not word.startswith(
        ("root=/dev/sd", "root=/dev/vd", "root=/dev/hd", "root=/dev/xvd", "root=/dev/nvme")
    )


def runs_natively() -> bool:
    """Whether this host's pagetable KVM runs the kernel code of a guest that asks for it on the processor."""
    return supervisor_mode().supervisor is Supervisor.NATIVE


def is_ours(kernel: str) -> bool:
    """Whether it is a kernel that Corral built."""
    from corral.guests import cache

    return os.path.realpath(kernel).startswith(os.path.realpath(cache.folder("kernels")) + os.sep)


def _default(draft: Draft, tell: Tell) -> Chosen:
    """Linux with Corral's initramfs, as this host runs it best."""
    from corral.guests import default, parameters

    request, machine = draft.request, draft.machine
    kind, wanted = host_kind(), request.variant
    if wanted not in (None, "small"):
        raise ConfigError(f"--kernel {wanted!r} is of a distribution or of a disk with a system; there is neither")
    choice = default.choose(kind, machine.cpus, bool(machine.disks or wanted), request.acpi is not False)
    if machine.shares and not choice.stock:
        from corral.guests import kernel
        from corral.launch import preflight

        plan = intent(draft, request.acpi, None, small=True)
        preflight.refuse(preflight.small_kernel(kernel.configuration(), plan, None))
    found = choice.get(steps(tell))
    tell(Notice(f"Linux {found.version}, {choice.why}", routine=True))
    has_acpi = parameters.has_acpi(kind, choice.stock) if request.acpi is None else request.acpi
    initrd = request.initrd
    ours = initrd is None
    if request.container is not None:
        from corral.guests import container

        initrd = container.initramfs_path(steps(tell))
    elif ours and (machine.channel or request.nets) and found.package:
        from corral.guests import root_initramfs

        initrd = root_initramfs.with_shell(found.version, found.package.modules, bool(request.nets), steps(tell))
    return Chosen(found.path, choice.stock, has_acpi, initrd, channel=ours)


def _named(draft: Draft, path: str, root: int | None, tell: Tell) -> Chosen:
    """The file that was asked for."""
    from corral.guests import parameters

    request, machine = draft.request, draft.machine
    initrd, acpi = request.initrd, request.acpi
    if machine.flat is not None:
        _require_bare(draft)
    if request.variant is not None:
        raise ConfigError(f"--kernel {request.variant}: the KERNEL is named already; leave one of them out")
    takes_parameters, is_linux = _is_linux(path, machine)
    if not takes_parameters:
        if request.early:
            raise ConfigError("--early is for Linux, which KERNEL is not; leave it out")
        words = "" if root is None or machine.flat is not None else parameters.for_root(root)
        return Chosen(path, True, bool(acpi), initrd or "none", words, parameters=False, ours_first=is_linux)
    ours = is_ours(path)
    if ours and root is None:
        has_acpi = parameters.has_acpi(host_kind(), False) if acpi is None else acpi
        return Chosen(path, False, has_acpi, initrd, channel=initrd is None)
    return of_linux(path, machine.protocol, intent(draft, acpi, root, ours), request.parameters, tell)


def _require_bare(draft: Draft) -> None:
    """Raises ConfigError for what raw code cannot be told of, by its option: it takes no command line."""
    request, machine = draft.request, draft.machine
    options = ["append"] * bool(request.parameters)
    options += ["--"] * (request.command is not None)
    options += ["initrd"] * (request.initrd not in (None, "none"))
    if options:
        name = f"--{options[0]}" if options[0] != "--" else "the command"
        raise ConfigError(f"raw code (--flat) takes no command line and no initrd; leave {name} out")
    devices = ["--disk"] * bool(machine.disks) + ["--share"] * bool(machine.shares) + ["--net"] * bool(request.nets)
    devices += ["--vsock or --balloon"] * bool(request.others)
    if devices and not request.acpi:
        raise ConfigError(
            f"{devices[0]}: raw code (--flat) takes no command line, so it is not told of its devices; with --acpi on "
            "it has tables of them, and a boot sector with its disk boots by --bios --disk"
        )


def _parameters(draft: Draft, chosen: Chosen, channel: str) -> list[str]:
    from corral.guests import parameters

    request, machine = draft.request, draft.machine
    kind, words = host_kind(), []
    devices = len(machine.disks) + len(machine.shares) + len(machine.others) + bool(channel)
    given = request.parameters
    if not chosen.ours_first:
        words.append(given)
    if chosen.parameters:
        words += [parameters.EARLY] * request.early
        small = not chosen.stock and parameters.NONATIVE not in given.split() and runs_natively()
        words.append(parameters.for_kind(kind, chosen.stock, chosen.acpi, small or chosen.native))
    if devices and not chosen.acpi:
        words.append(parameters.for_devices(devices))
    words.append(chosen.root)
    if chosen.initrd != "none":
        words.append(parameters.for_initrd(kind, chosen.stock))
    if request.command and not channel:
        words.append(parameters.for_command(list(request.command)))
    if channel:
        words.append(parameters.for_channel(channel))
    if request.agent:
        words.append(parameters.AGENT)
    if request.nets and chosen.parameters:
        words.append(parameters.for_network([card.parameter for card in request.nets]))
    return [*words, given] if chosen.ours_first else words


def _is_linux(kernel: str, machine: MachineConfig) -> tuple[bool, bool]:
    """Whether it takes Linux's parameters, and whether it is Linux."""
    from corral import boot

    if machine.flat is not None:
        return False, False
    with boot.open_kernel(kernel, machine.protocol) as file:
        return file.is_linux and file.kind in ("bzImage", "vmlinux"), file.is_linux
