"""What KVM keeps of a VM beside its vCPUs and its memory, as a value: interrupt controllers, timer, clock."""

from __future__ import annotations

from corral.native import ffi, ioctl
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm

CHIPS = 3  # both PICs and the IOAPIC
_IMR, _PINS = 8 + 2, 8 + 24  # in struct kvm_irqchip: a PIC's mask, an IOAPIC's redirection table
_MASKED = 1 << 16


@record(frozen=True)
class VmState:
    """`chips` are struct kvm_irqchip, as bytes, none where KVM has local APICs alone; `clock` is the guest's
    paravirtual clock, ns."""

    chips: tuple[bytes, ...]
    clock: int


def save(vm: Vm, split: bool) -> VmState:
    """Raises KvmError."""
    chips = []
    for number in range(0 if split else CHIPS):
        chip = ffi.new("struct kvm_irqchip *", {"chip_id": number})
        ioctl(vm.fd, "KVM_GET_IRQCHIP", chip)
        chips.append(bytes(ffi.buffer(chip)))
    clock = ffi.new("struct kvm_clock_data *")
    ioctl(vm.fd, "KVM_GET_CLOCK", clock)
    return VmState(tuple(chips), clock.clock)


def restore(vm: Vm, state: VmState, split: bool) -> None:
    """Raises KvmError; ValueError for bytes of another length, and for what KVM has no place for."""
    if len(state.chips) != (0 if split else CHIPS):
        raise ValueError(f"{len(state.chips)} interrupt controllers, not {0 if split else CHIPS}")
    for number, content in enumerate(state.chips):
        chip = ffi.new("struct kvm_irqchip *")
        _fill(chip, content)
        chip.chip_id = number
        ioctl(vm.fd, "KVM_SET_IRQCHIP", chip)
    ioctl(vm.fd, "KVM_SET_CLOCK", ffi.new("struct kvm_clock_data *", {"clock": state.clock}))


def masks_timer(state: VmState) -> bool:
    """Whether neither the first PIC's line 0 nor the IOAPIC's pins 0 and 2, to one of which it goes, passes the 8254's
    interrupt on (struct kvm_pic_state, struct kvm_ioapic_state)."""
    pic, _, ioapic = state.chips
    entries = [ioapic[_PINS + 8 * pin :][:4] for pin in (0, 2)]
    return bool(pic[_IMR] & 1) and all(int.from_bytes(entry, "little") & _MASKED for entry in entries)


def _fill(value: object, content: bytes) -> None:
    place = ffi.buffer(value)
    if len(content) != len(place):
        raise ValueError(f"{len(content)} bytes, not {len(place)}")
    place[:] = content
