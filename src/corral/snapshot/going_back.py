"""A machine on its way, in place, to a state that it was in."""

from __future__ import annotations

from corral.arch.x86_64 import native_mode
from corral.kvm import vcpu_state
from corral.snapshot import machine_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.devices.virtio.mmio import MmioTransport
    from corral.devices.virtio.negotiation import NegotiationState
    from corral.snapshot.machine_state import MachineState
    from corral.snapshot.parts import Parts
    from corral.snapshot.programs import Programs


class GoingBack:
    """A machine that is paused and on its way to a `state` that it was in. In the block it leaves its memory alone,
    which is to be as it was then when done() is called; without that the devices go on. Raises what Still does."""

    def __init__(self, machine: Parts, state: MachineState, programs: Programs) -> None:
        self._machine, self._state, self._programs = machine, state, programs
        self._vcpus_done = False
        self._stopped: list[tuple[MmioTransport, NegotiationState]] = []

    def __enter__(self) -> GoingBack:
        machine = self._machine
        try:
            self._vcpus_done = self._programs.go_back(self._state)
            for vcpu, state in () if self._vcpus_done else zip(machine.vcpus, self._state.vcpus, strict=True):
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
        machine, state = self._machine, self._state
        for vcpu, one in () if self._vcpus_done else zip(machine.vcpus, state.vcpus, strict=True):
            machine_state.restore_vcpu(machine, vcpu, native_mode.switch_back(vcpu, machine.memory, one), state.lidt)
        machine_state.restore_devices(machine, state)
        if not self._vcpus_done:
            self._programs.is_in(state)

    def __exit__(self, *exception: object) -> None:
        stopped, self._stopped = self._stopped, []
        for transport, state in stopped:
            transport.restore(state)
