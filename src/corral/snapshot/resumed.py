"""A snapshot in the place of a kernel: its RAM is mapped, and its state is what the machine begins with."""

from __future__ import annotations

import time

from corral import __version__
from corral.config import MachineConfig
from corral.errors import BootError, ConfigError, HostError
from corral.kvm import vcpu_state
from corral.native import lib
from corral.snapshot import disks, file, machine_state, other_devices, parents, values
from corral.snapshot.disks import DiskState
from corral.snapshot.host import Host, host_of
from corral.snapshot.machine_state import MachineState
from corral.snapshot.other_devices import NOWHERE, Card, DeviceEnds, Other
from corral.snapshot.parents import Base, Line, Parent
from corral.snapshot.ram import Chain
from corral.startup.digest import sha256
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.arch.x86_64.cpuid import Entry
    from corral.devices.virtio.blk import Disk
    from corral.devices.virtio.device import Layer
    from corral.kvm.system import System
    from corral.memory import GuestMemory
    from corral.snapshot.parts import Parts


@record(frozen=True)
class Guest:
    """What a machine is made from, as far as a snapshot of it needs that. `linux` tells whether its kernel is one."""

    kernel: str
    cmdline: str
    memory: int
    cpus: int
    acpi: bool
    debug_exit: int | None
    nested: bool
    channel: str
    linux: bool
    split_irqchip: bool
    disks: tuple[DiskState, ...]
    others: tuple[Other, ...]


@record(frozen=True)
class Content:
    """All but the RAM. `corral` is the version that saved it; `cpuid` what the first vCPU was given; `parent` has the
    pages that the file has not."""

    corral: str
    parent: Parent | None
    host: Host
    guest: Guest
    cpuid: tuple[tuple[int, int, int, int, int, int, int], ...]
    state: MachineState


NAME = file.NAME
LOOKS, GLANCE = 20, 0.001  # for how often, and seconds between
RECORDS = (
    machine_state.RECORDS
    | parents.RECORDS
    | {one.__name__: one for one in (Host, Card, Other, Guest, Content, DiskState)}
)


def save(machine: Parts, path: str, base: Base | None = None, go_on: Callable[[], None] | None = None) -> int:
    """Writes a snapshot of a machine that is paused; returns the bytes of its RAM that are in it. `base`: made for it
    before it was paused. `go_on` has the machine resumed: it is called once all is read but the RAM, which another
    process has as it was then. None: the machine stands still until the end. Raises ConfigError for what cannot be
    saved, GuestError, HostError, KvmError."""
    parent, chain = (base.record, base.chain) if base else (None, None)
    still = machine_state.Still(machine)

    def released() -> None:
        still.release()
        if go_on:
            go_on()

    with still as state:
        text, goes = _description(machine, state, parent), released if go_on else None
        return file.write(path, text, machine.memory, _layers(machine), chain, goes)


def prepare(machine: Parts) -> None:
    """For save_into() in a jail, where nothing can be opened, and no module loaded."""
    sha256(b"")
    host_of(machine.system)
    lib.corral_ram_prepare_save()


def save_into(machine: Parts, fd: int) -> int:
    """The same into an empty file that is open. Raises OSError too."""
    with machine_state.Still(machine) as state:
        return file.save(fd, _description(machine, state), machine.memory, _layers(machine))


def save_behind(machine: Parts, folder: str, others: dict[str, bytes]) -> None:
    """The same into a folder that is made for it, by a process that takes over while the machine goes on; NAME is it
    called there, and beside it are `others`. What its disks have written is copied at once. Raises what save() does."""
    with machine_state.Still(machine) as state:
        file.write_behind(folder, others, _description(machine, state), machine.memory, _layers(machine))


def pause_idle(machine: Parts) -> None:
    """Pauses it when all its vCPUs wait for an interrupt: what its kernel is still busy with would be done by each
    guest that goes on. One that does not become idle is paused all the same."""
    machine.pause()
    for _ in range(LOOKS):
        if all(vcpu_state.is_halted(vcpu) for vcpu in machine.vcpus):
            return
        machine.resume()
        time.sleep(GLANCE)
        machine.pause()


def _layers(machine: Parts) -> list[Disk]:
    return [disk for disk in machine.disks if disk.has_layer]


def _description(machine: Parts, state: MachineState, parent: Parent | None = None) -> str:
    config = machine.config
    guest = Guest(
        *(config.kernel, config.cmdline, config.memory, config.cpus, config.acpi, config.debug_exit, config.nested),
        config.channel if machine.channel else "",
        machine.is_linux,
        machine.shell.ioapic is not None,
        tuple(disks.save(one, disk) for one, disk in zip(config.disks, machine.disks, strict=True)),
        tuple(other_devices.save(one) for one in config.others),
    )
    return file.dump(Content(__version__, parent, host_of(machine.system), guest, machine.cpuid, state))


def config(path: str, overlay: bool = False, command: str | None = None, ends: DeviceEnds = NOWHERE) -> MachineConfig:
    """The machine that a snapshot goes on in; `overlay`: what it writes to images is kept beside them, and gone with
    it; `command`: a line for its shell, if it waits for its session. Raises BootError, ConfigError."""
    with Resumed(path) as resumed:
        return resumed.config(overlay, command, ends)


_last: tuple[bytes, Content] | None = None  # whose digest that is: many guests go on from one


def _content(source: file.SnapshotFile) -> Content:
    """Raises BootError."""
    global _last
    known = _last
    if known is None or known[0] != source.digest:
        known = _last = source.digest, values.from_plain("Content", source.plain(), RECORDS)
    return known[1]


class Resumed:
    """An open snapshot, as a machine takes its kernel. `fd`: it is open already, and `path` what it is called; it stays
    the caller's. Raises BootError."""

    kind, expects_bios, code, files = "snapshot", False, (), ()

    def __init__(self, path: str, fd: int | None = None) -> None:
        self._file = file.SnapshotFile(path, fd)
        try:
            self.content = _content(self._file)
        except BootError as error:
            self._file.close()
            raise self._file.error(str(error)) from None
        guest = self.content.guest
        self.is_linux = guest.linux
        try:
            numbers = [other.bandwidth or 0 for other in guest.others] + [disk.size for disk in guest.disks]
            if min(guest.memory, *numbers, 0) < 0:
                raise self._file.error("its sizes make no sense")
            parent = self.content.parent
            layered = [disk.size for disk in guest.disks if disk.snapshot]
            self._file.require(guest.memory, layered, parent is not None)
            self._line = Line(self._file, parent, guest.memory)
        except BaseException:
            self._file.close()
            raise

    def another(self) -> Resumed:
        """The same once more, for another machine; it is not read again."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._file, other._line = self._file.another(), self._line.another()
        return other

    def close(self) -> None:
        self._line.close()
        self._file.close()

    def __enter__(self) -> Resumed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_ready(self) -> bool:
        """Whether the guest waits for its session, and can be given any command."""
        channel = self.content.state.channel
        return channel is not None and channel.is_ready

    @property
    def has_identity(self) -> bool:
        """Whether a guest that goes on can be told who it is: by its channel, or by its agent."""
        from corral.guests.parameters import AGENT

        guest = self.content.guest
        return bool(guest.channel) or (any(one.vsock for one in guest.others) and AGENT in guest.cmdline.split())

    def config(self, overlay: bool = False, command: str | None = None, ends: DeviceEnds = NOWHERE) -> MachineConfig:
        """What the machine has to be, as config() has it. Raises BootError, ConfigError."""
        guest = self.content.guest
        if guest.channel:  # it is told by that
            ends = replace(ends, hostname=None)
        if command is not None and not self.is_ready:
            raise ConfigError(
                f"the guest of {self._file.path!r} is in the middle of a session, and takes no command; leave that "
                "out, or save one that waits: corral snapshot FILE, without --after"
            )
        try:
            found = tuple(disks.config(disk, overlay) for disk in guest.disks)
            others = other_devices.configs(guest.others, ends) if guest.others or ends != NOWHERE else ()
        except BootError as error:
            raise self._file.error(str(error)) from None
        return MachineConfig(
            guest.kernel,
            cmdline=guest.cmdline,
            memory=guest.memory,
            cpus=guest.cpus,
            acpi=guest.acpi,
            debug_exit=guest.debug_exit,
            nested=guest.nested,
            channel=guest.channel,
            command=command,
            disks=found,
            others=others,
            snapshot=self._file.path,
            split_irqchip=guest.split_irqchip,
        )

    def require_whole(self) -> None:
        """Raises HostError for a file that was cut off since; its guest cannot go on."""
        if not all(one.is_whole for one in self.generations):
            raise HostError(
                f"the snapshot {self._file.path!r} was cut off while a guest ran from it; remove one, or replace it, "
                "but do not write to it"
            )

    def layers(self) -> dict[int, Layer]:
        """What its disks had written over their images, by the disks' numbers. Raises BootError."""
        every = self.content.guest.disks
        layered = [number for number, disk in enumerate(every) if disk.snapshot]
        return {number: self._file.layer(index, every[number].size) for index, number in enumerate(layered)}

    def load(self, memory: GuestMemory, cmdline: bytes, initrd: object, rsdp: int) -> None:
        """Maps the RAM, which has all of these in it. There is no entry: see restore()."""
        Chain([one.layer_of_ram() for one in self.generations]).map(memory)

    @property
    def generations(self) -> list[file.SnapshotFile]:
        """It and its parents, the oldest last."""
        return [self._file, *self._line.files]

    def restore(self, machine: Parts) -> None:
        """Before the machine runs. Raises BootError for what this host or this machine cannot go on with."""
        self.require_host(machine.system, machine.cpuid)
        try:
            machine_state.restore(machine, self.content.state)
        except BootError as error:
            raise self._file.error(str(error)) from None

    def require_host(self, system: System, found: tuple[Entry, ...]) -> None:
        """That its guest can go on here, where vCPU 0 has the CPUID `found`. Raises BootError, with what it lacks."""
        host = host_of(system)
        saved = self.content.host
        if host.kind != saved.kind:
            raise self._file.error(f"was saved on {saved.kind} KVM, and this host has {host.kind}; boot it here anew")
        if found != self.content.cpuid:
            from corral.arch.x86_64 import cpuid_names

            how = cpuid_names.difference(self.content.cpuid, found)
            raise self._file.error(f"was saved on {saved.cpu}; this host ({host.cpu}) {how}; boot it here anew")
        if host.boot != saved.boot:
            raise self._file.error("was saved before this host was booted, and its clock cannot be set; boot it anew")
