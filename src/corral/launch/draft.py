"""A machine as far as it is known before its kernel is chosen; nothing is fetched or built for it, and no KVM used."""

from __future__ import annotations

import os

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.config import MOST_DEVICES, DiskConfig, MachineConfig, parse_number
from corral.errors import ConfigError
from corral.launch.events import Notice, ignore
from corral.launch.request import NAMES, BootRequest
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.events import Tell
    from corral.numa.request import Request as Placement

# Parameters by which Linux uses an 8259 or the ticks of an 8254.
OTHER_INTERRUPTS = frozenset(
    ("noapic", "nolapic", "disableapic", "nolapic_timer", "noapictimer", "lapic=notscdeadline", "no-kvmclock", "nopv")
)
ABSURD = 16  # times the host's memory: its page structures alone would fill a quarter of the host's


@record(frozen=True)
class Draft:
    """`machine` is what was asked for, without a kernel."""

    request: BootRequest
    machine: MachineConfig

    @property
    def root(self) -> int | None:
        """The number of the disk with the root file system. A command needs Corral's init, so it has no such disk, but
        for a distribution's, whose initramfs serves the channel. Raises ConfigError."""
        request = self.request
        disks = request.disks  # without cloud-init's
        command = request.command and not request.serves_channel
        wanted = request.root
        if wanted is None:
            wanted = "none" if command or not disks else "0"
        if wanted == "none":
            return None
        names = [disk.id for disk in disks]
        index = names.index(wanted) if wanted in names else parse_number(wanted, "--root")
        if index >= len(disks):
            raise ConfigError(f"--root {index}: there are {len(disks)} disks, and the first is number 0")
        if command:
            raise ConfigError(
                "a command runs in Corral's own initramfs, not in a disk's system; leave --root or it out"
            )
        return index

    @property
    def is_named(self) -> bool:
        """Whether the kernel may be one of NAMES; told by its first letters, for the module that knows is not loaded
        by others. Raises ConfigError for what is no file, and like such a name."""
        word = self.request.kernel
        if word is None:
            return False
        name, colon, release = word.partition(":")
        if name not in NAMES and "/" not in word and not os.path.lexists(word):
            from corral import spelling

            if near := spelling.meant(name, NAMES):
                raise ConfigError(f"there is no file {word!r}; did you mean {near}{colon}{release}?")
        return name in NAMES

    def placement(self) -> Placement | None:
        """What is to be placed, and how; None: nothing."""
        if self.machine.snapshot is not None:
            return None
        wanted = self.request.placement
        if wanted is None:
            if not _has_many_nodes():
                return None
            from corral.numa.request import Request

            wanted = Request(self.machine.cpus, self.machine.memory)
        return replace(wanted, cpus=self.machine.cpus, memory=self.machine.memory)


def draft(request: BootRequest, tell: Tell = ignore) -> Draft:
    """Raises ConfigError for what contradicts itself or is out of range, BootError for files that cannot be used."""
    if request.snapshot is not None:
        return Draft(request, _restored(request, request.snapshot))
    if request.kernel is None and (request.modules or request.protocol is not None or request.flat):
        raise ConfigError("--module, --protocol and --flat are about a KERNEL of yours; name it")
    if request.protocol is not None:
        _check_protocol(request)
    memory = _default_memory() if request.memory is None else request.memory
    disks = request.disks + _seed(request)
    given = len(disks) + len(request.shares) + len(request.nets) + len(request.others)
    machine = MachineConfig(
        kernel="",
        memory=memory,
        cpus=request.cpus,
        disks=disks,
        shares=request.shares,
        others=(*request.nets, *request.others),
        protocol=request.protocol,
        flat=request.flat,
        modules=request.modules,
        debug_exit=request.debug_exit,
        nested=request.nested,
        channel=request.session if given < MOST_DEVICES else "",
        split_irqchip=_suits_split_irqchip(request),
    )
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    amounts = f"--memory {memory / (1 << 30):g} GiB: this host has {host / (1 << 30):.1f} GiB"
    if memory > ABSURD * host:
        raise ConfigError(f"{amounts}; ask for less")
    if memory > host:
        tell(Notice(f"{amounts}; a guest that uses all of it is killed"))
    return Draft(request, machine)


def _restored(request: BootRequest, path: str) -> MachineConfig:
    from corral.config import VsockConfig
    from corral.snapshot import resumed
    from corral.snapshot.other_devices import Ends

    vsock = next((one for one in request.others if isinstance(one, VsockConfig)), None)
    return resumed.config(path, request.overlay, request.line, Ends(request.nets, vsock, request.hostname))


def _suits_split_irqchip(request: BootRequest) -> bool:
    """Whether the kernel will be one that Corral knows, its own or a distribution's: that takes its time from KVM and
    leaves 8259 and 8254 alone, unless it is told to use them. What a person names, or a disk has, may be anything."""
    known = request.serves_channel or (request.kernel is None and (request.command is not None or not request.disks))
    return known and not request.bios and OTHER_INTERRUPTS.isdisjoint(request.parameters.split())


def _check_protocol(request: BootRequest) -> None:
    from corral.boot import PROTOCOLS

    if request.protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {request.protocol!r} is none of {', '.join(PROTOCOLS)}")
    if request.flat:
        raise ConfigError("--flat and --protocol exclude each other: raw code is entered by no protocol")


def _default_memory() -> int:
    from corral.guests.default import MEMORY, MEMORY_INTERPRETED

    return MEMORY_INTERPRETED if supervisor_mode().supervisor is Supervisor.INTERPRETED else MEMORY


def _seed(request: BootRequest) -> tuple[DiskConfig, ...]:
    """The disk that answers cloud-init's questions, when there is something to answer."""
    told = request.cloud_init
    if told is None:
        return ()
    from corral.guests import cloud_init

    path = cloud_init.disk(told.user_data, told.hostname, told.ssh_key)
    return (DiskConfig(path, read_only=True, serial="cidata"),)


def _has_many_nodes() -> bool:
    """A look that costs a plain start on a host with one node next to nothing."""
    try:
        with open("/sys/devices/system/node/online", "rb") as file:
            return file.read().strip() != b"0"
    except OSError:
        return False
