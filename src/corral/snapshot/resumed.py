"""A snapshot in the place of a kernel: its RAM is mapped, and its state is what the machine begins with."""

from __future__ import annotations

from corral import __version__
from corral.config import MachineConfig
from corral.errors import BootError
from corral.snapshot import file, machine_state, values
from corral.snapshot.host import Host, host_of
from corral.snapshot.machine_state import MachineState
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory
    from corral.network import NetConfig
    from corral.snapshot.parts import Parts


@record(frozen=True)
class Card:
    """A network card as the guest knows it (network.NetConfig)."""

    backend: str
    mac: str
    mtu: int


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
    cards: tuple[Card, ...]


@record(frozen=True)
class Content:
    """All but the RAM. `corral` is the version that saved it; `cpuid` what the first vCPU was given."""

    corral: str
    host: Host
    guest: Guest
    cpuid: tuple[tuple[int, int, int, int, int, int, int], ...]
    state: MachineState


NAME = file.NAME
RECORDS = machine_state.RECORDS | {one.__name__: one for one in (Host, Card, Guest, Content)}


def save(machine: Parts, path: str) -> int:
    """Writes a snapshot of a machine that is paused; returns the bytes of its RAM that are in it. Raises ConfigError
    for what cannot be saved, GuestError, HostError, KvmError."""
    with machine_state.Still(machine) as state:
        return file.write(path, _description(machine, state), machine.memory)


def save_behind(machine: Parts, folder: str, others: dict[str, bytes]) -> None:
    """The same into a folder that is made for it, by a process that takes over while the machine goes on; NAME is it
    called there, and beside it are `others`. Raises what save() does."""
    with machine_state.Still(machine) as state:
        file.write_behind(folder, others, _description(machine, state), machine.memory)


def _description(machine: Parts, state: MachineState) -> str:
    config = machine.config
    guest = Guest(
        *(config.kernel, config.cmdline, config.memory, config.cpus, config.acpi, config.debug_exit, config.nested),
        config.channel if machine.channel else "",
        machine.is_linux,
        machine.shell.ioapic is not None,
        tuple(Card(card.backend, card.mac, card.mtu) for card in machine_state.cards(config)),
    )
    return file.dump(Content(__version__, host_of(machine.system), guest, machine.cpuid, state))


def config(path: str, nets: tuple[NetConfig, ...] = ()) -> MachineConfig:
    """The machine that a snapshot goes on in, its network cards connected to these. Raises BootError, ConfigError."""
    with Resumed(path) as resumed:
        return resumed.config(nets)


class Resumed:
    """An open snapshot, as a machine takes its kernel. Raises BootError."""

    kind, expects_bios, code, files = "snapshot", False, (), ()

    def __init__(self, path: str) -> None:
        self._file = file.SnapshotFile(path)
        try:
            self.content: Content = values.from_plain("Content", self._file.plain(), RECORDS)
        except BootError as error:
            self._file.close()
            raise self._file.error(str(error)) from None
        self.is_linux = self.content.guest.linux

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Resumed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def config(self, nets: tuple[NetConfig, ...] = ()) -> MachineConfig:
        """What the machine has to be; its network cards are connected to `nets`, and to nothing without them: that is
        not for a file to say. Raises ConfigError."""
        guest = self.content.guest
        return MachineConfig(
            guest.kernel,
            cmdline=guest.cmdline,
            memory=guest.memory,
            cpus=guest.cpus,
            acpi=guest.acpi,
            debug_exit=guest.debug_exit,
            nested=guest.nested,
            channel=guest.channel,
            others=_connected(guest.cards, nets) if guest.cards or nets else (),
            snapshot=self._file.path,
            split_irqchip=guest.split_irqchip,
        )

    def load(self, memory: GuestMemory, cmdline: bytes, initrd: object, rsdp: int) -> None:
        """Maps the RAM, which has all of these in it. There is no entry: see restore()."""
        self._file.map(memory)

    def restore(self, machine: Parts) -> None:
        """Before the machine runs. Raises BootError for what this host or this machine cannot go on with."""
        host = host_of(machine.system)
        saved = self.content.host
        if host.kind != saved.kind:
            raise self._file.error(f"was saved on {saved.kind} KVM, and this host has {host.kind}; boot it here anew")
        if machine.cpuid != self.content.cpuid:
            leaves = sorted({one[0] for one in {*machine.cpuid} ^ {*self.content.cpuid}})
            where = ", ".join(f"{leaf:#x}" for leaf in leaves[:8])
            raise self._file.error(
                f"was saved on {saved.cpu}, and here CPUID differs in leaf {where} ({host.cpu}); boot it here anew"
            )
        if host.boot != saved.boot:
            raise self._file.error("was saved before this host was booted, and its clock cannot be set; boot it anew")
        try:
            machine_state.restore(machine, self.content.state)
        except BootError as error:
            raise self._file.error(str(error)) from None


def _connected(cards: tuple[Card, ...], nets: tuple[NetConfig, ...]) -> tuple[NetConfig, ...]:
    """Raises ConfigError for other cards than the guest has."""
    from corral.errors import ConfigError
    from corral.network import NetConfig

    if nets and [net.backend for net in nets] != [card.backend for card in cards]:
        had = ", ".join(f"--net {card.backend}" for card in cards) or "no network card"
        raise ConfigError(f"the guest in this snapshot has {had}; give it the same, or none to leave them unconnected")
    if not nets:
        return tuple(
            NetConfig(card.backend, "unconnected", mac=card.mac, mtu=card.mtu, connected=False) for card in cards
        )
    return tuple(replace(net, mac=card.mac, mtu=card.mtu) for net, card in zip(nets, cards, strict=True))
