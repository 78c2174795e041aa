"""The IOAPIC of a VM whose interrupt controllers are split: its registers are in csrc/vcpu/ioapic.c; here is its life.

Whether a pin's interrupt is being served (remote IRR) is known of lines that a device holds up, not of the pulses that
eventfds send by KVM's routes.
"""

from __future__ import annotations

from corral.errors import HostError
from corral.native import CData, Handle, check, ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import InC

PINS = lib.CORRAL_IOAPIC_PINS
REGISTERS = 0x100  # bytes of address space


@record(frozen=True)
class IoapicState:
    """`pins` are redirection entries; `lines` and `requests` have a bit a pin (csrc/vcpu/ioapic.h)."""

    select: int
    id: int
    lines: int
    requests: int
    pins: tuple[int, ...]


class Ioapic:
    """`vm_fd` < 0 makes one without interrupts, for tests without KVM. Raises ClosedError after close()."""

    def __init__(self, vm_fd: int) -> None:
        native = lib.corral_ioapic_create(vm_fd)
        if native == ffi.NULL:
            raise HostError("no memory for an interrupt controller")
        self._ioapic = Handle(native, lib.corral_ioapic_destroy)

    def close(self) -> None:
        """After every vCPU of its VM and every device that raises a line of it is closed."""
        self._ioapic.close()

    @property
    def native(self) -> CData:
        return self._ioapic.value

    @property
    def in_c(self) -> tuple[InC, ...]:
        """All its registers (Bus.claim)."""
        return ((0, REGISTERS - 1, lib.corral_ioapic_access, self._ioapic.value),)

    def read(self, offset: int, size: int) -> int:
        """What C leaves: an access of eight bytes."""
        value = ffi.new("uint32_t *")
        self._ioapic.call(lib.corral_ioapic_access, False, offset, size, value)
        return int(value[0])

    def write(self, offset: int, size: int, value: int) -> None:
        """Also what C has written, but could not give KVM as routes. Raises KvmError where that fails again."""
        self._ioapic.call(lib.corral_ioapic_access, True, offset, size, ffi.new("uint32_t *", value & 0xFFFFFFFF))
        check("KVM_SET_GSI_ROUTING", self._ioapic.call(lib.corral_ioapic_route))

    def save(self) -> IoapicState:
        state = ffi.new("struct corral_ioapic_state *")
        self._ioapic.call(lib.corral_ioapic_save, state)
        return IoapicState(state.select, state.id, state.lines, state.requests, tuple(state.pins))

    def restore(self, state: IoapicState) -> None:
        """While no vCPU runs. Raises ValueError for a state that no IOAPIC has, OverflowError, KvmError."""
        if len(state.pins) != PINS:
            raise ValueError(f"an IOAPIC with {len(state.pins)} pins, not {PINS}")
        values = (state.select, state.id & 0xF, state.lines, state.requests, state.pins)
        native = ffi.new("struct corral_ioapic_state *", values)
        check("KVM_SET_GSI_ROUTING", self._ioapic.call(lib.corral_ioapic_restore, native))
