"""The state of a whole machine: its parts' states, read while it is paused and written before it runs."""

from __future__ import annotations

from corral.arch.x86_64 import native_mode
from corral.backends.channel import ChannelState
from corral.config import RngConfig, VsockConfig
from corral.core.ioapic import IoapicState
from corral.devices.crt_controller import CrtState
from corral.devices.i8042 import I8042State
from corral.devices.serial import SerialState
from corral.devices.user_pit import CounterState, UserPit, UserPitState
from corral.devices.virtio.device import Queue
from corral.devices.virtio.negotiation import NegotiationState
from corral.errors import BootError, ConfigError, GuestError
from corral.kvm import vcpu_state, vm_state
from corral.kvm.system import Kind
from corral.kvm.vcpu_state import VcpuState
from corral.kvm.vm_state import VmState
from corral.snapshot import disks
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.devices.virtio.mmio import MmioTransport
    from corral.kvm.system import System
    from corral.network import NetConfig
    from corral.snapshot.parts import Parts

TRIES = 20  # to find a moment at which no vCPU is in the middle of an exit


@record(frozen=True)
class MachineState:
    vcpus: tuple[VcpuState, ...]
    lidt: tuple[int, ...] | None
    vm: VmState
    ioapic: IoapicState | None
    pit: bytes | None
    user_pit: UserPitState | None
    serial: SerialState
    i8042: I8042State
    cmos: int
    pci_address: int
    status: int | None
    screen: CrtState | None
    virtio: tuple[NegotiationState, ...]
    channel: ChannelState | None


RECORDS: dict[str, type] = {
    one.__name__: one
    for one in (
        *(MachineState, VcpuState, VmState, IoapicState, UserPitState, CounterState),
        *(SerialState, I8042State, CrtState),
        *(NegotiationState, Queue, ChannelState),
    )
}


def refuse(machine: Parts) -> None:
    """Raises ConfigError, with the reason, for a machine that cannot be saved."""
    config = machine.config
    others = [one for one in config.others if not isinstance(one, RngConfig | VsockConfig)]
    for holds, what, cure in (
        (config.shares, "a shared folder", "its server cannot be taken along: leave --share out"),
        (len(others) > len(cards(config)), "a device that has no state yet", "leave it out"),
        (config.bios, "a BIOS", "boot it by a protocol of its own"),
        (config.plan, "a NUMA plan", "leave --numa out"),
    ):
        if holds:
            raise ConfigError(f"a machine with {what} cannot be saved yet; {cure}")
    for one, disk in zip(config.disks, machine.disks, strict=True):
        disks.refuse(one, disk)


def cards(config: MachineConfig) -> tuple[NetConfig, ...]:
    """Its network cards."""
    if not config.others:
        return ()
    from corral.network import NetConfig

    return tuple(one for one in config.others if isinstance(one, NetConfig))


class Still:
    """Gives the state of a machine that is paused, and is paused after it too. Until the end of the block its devices
    leave its memory alone. Raises ConfigError, GuestError, HostError, KvmError."""

    def __init__(self, machine: Parts) -> None:
        self._machine = machine
        self._stopped: list[tuple[MmioTransport, NegotiationState]] = []

    def __enter__(self) -> MachineState:
        machine = self._machine
        refuse(machine)
        _complete_exits(machine)
        try:
            for transport in machine.virtio:
                self._stopped.append((transport, transport.save()))
            return _read(machine, tuple(state for _, state in self._stopped))
        except BaseException:
            self.__exit__()
            raise

    def release(self) -> None:
        """The end of the block comes early."""
        stopped, self._stopped = self._stopped, []
        for transport, state in stopped:
            transport.restore(state)

    def __exit__(self, *exception: object) -> None:
        self.release()


class GoingBack:
    """A machine that is paused and on its way to a `state` that it was in. In the block it leaves its memory alone,
    which is to be as it was then when done() is called; without that the devices go on. Raises what Still does."""

    def __init__(self, machine: Parts, state: MachineState) -> None:
        self._machine, self._state = machine, state
        self._stopped: list[tuple[MmioTransport, NegotiationState]] = []

    def __enter__(self) -> GoingBack:
        machine = self._machine
        try:
            for vcpu, state in zip(machine.vcpus, self._state.vcpus, strict=True):
                vcpu_state.abandon(vcpu)
                native_mode.prepare_to_go_back(vcpu, machine.memory, state)
            for transport in machine.virtio:
                self._stopped.append((transport, transport.save()))
        except BaseException:
            self.__exit__()
            raise
        return self

    def done(self) -> None:
        self._stopped = []
        restore(self._machine, self._state, again=True)

    def __exit__(self, *exception: object) -> None:
        stopped, self._stopped = self._stopped, []
        for transport, state in stopped:
            transport.restore(state)


def _read(machine: Parts, virtio: tuple[NegotiationState, ...]) -> MachineState:
    msrs = vcpu_state.msrs_to_keep(machine.system, _sets_tsc(machine.system))
    ioapic, pit = machine.shell.ioapic, machine.pit.save()
    return MachineState(
        tuple(vcpu_state.save(vcpu, msrs) for vcpu in machine.vcpus),
        machine.lidt,
        vm_state.save(machine.vm, ioapic is not None),
        ioapic.save() if ioapic else None,
        pit if isinstance(pit, bytes) else None,
        pit if isinstance(pit, UserPitState) else None,
        machine.serial.save(),
        machine.i8042.save(),
        machine.cmos.save(),
        machine.pci_address.save(),
        machine.status_port.status,
        machine.screen.save() if machine.screen else None,
        virtio,
        machine.channel.save() if machine.channel else None,
    )


def restore(machine: Parts, state: MachineState, again: bool = False) -> None:
    """Into a machine that has its memory already and has not run; `again`: it has, and is GoingBack. Raises BootError
    for a state that KVM refuses or this machine cannot have, KvmError."""
    if len(state.vcpus) != len(machine.vcpus):
        raise BootError(f"the state is of {len(state.vcpus)} vCPUs, and the machine has {len(machine.vcpus)}")
    if len(state.virtio) != len(machine.virtio):
        raise BootError(f"the state is of {len(state.virtio)} devices, and the machine has {len(machine.virtio)}")
    try:
        for vcpu, one in zip(machine.vcpus, state.vcpus, strict=True):
            if again:
                one = native_mode.switch_back(vcpu, machine.memory, one)
            elif one.native:
                one = native_mode.switch_on(vcpu, machine.memory, one)
            vcpu_state.restore(vcpu, one)
            if state.lidt is not None and machine.system.kind is Kind.PAGETABLE:
                vcpu.watch_interrupts(state.lidt, restored=True)
        machine.lidt = state.lidt
        _restore_controllers(machine, state)
        machine.serial.restore(state.serial)
        if machine.screen and state.screen:
            machine.screen.restore(state.screen)
        if machine.channel and state.channel:
            machine.channel.restore(state.channel)
        for transport, device in zip(machine.virtio, state.virtio, strict=True):
            transport.restore(device)
        if machine.channel:
            machine.channel.serve()  # what the guest waits for is there before it runs
    except (ValueError, OverflowError) as error:  # cffi's, of a number that its field cannot hold
        raise BootError(f"the state does not fit this machine: {error}") from None
    machine.i8042.restore(state.i8042)
    machine.cmos.restore(state.cmos)
    machine.pci_address.restore(state.pci_address)
    machine.status_port.status = None if state.status is None else state.status & 0xFF


def _restore_controllers(machine: Parts, state: MachineState) -> None:
    """And the timer, not earlier: it ticks, and a vCPU that is switched on takes interrupts."""
    ioapic, pit = machine.shell.ioapic, machine.pit
    vm_state.restore(machine.vm, state.vm, ioapic is not None)
    if (state.ioapic is None) != (ioapic is None):
        raise ValueError("its interrupt controllers are of another kind")
    if ioapic and state.ioapic:
        ioapic.restore(state.ioapic)
    if state.pit is not None and not isinstance(pit, UserPit):
        pit.restore(state.pit, vm_state.masks_timer(state.vm))
    if state.user_pit is not None and isinstance(pit, UserPit):
        pit.restore(state.user_pit)


def _sets_tsc(system: System) -> bool:
    """A pagetable KVM takes the write and does nothing."""
    return system.kind is Kind.HARDWARE


def _complete_exits(machine: Parts) -> None:
    """KVM ends some exits at the next entry; one that leads to another exit has to be run on."""
    for _ in range(TRIES):
        completed = [vcpu_state.complete(vcpu) for vcpu in machine.vcpus]
        if all(completed):
            return
        machine.resume()
        machine.pause()
    raise GuestError("the guest is never between two accesses to devices; it cannot be saved like that")
