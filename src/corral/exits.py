"""From an exit to its handler. Pure: works on any struct kvm_run, an invented one included, and needs no KVM."""

from __future__ import annotations

import enum

from corral.native import CData, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.bus import Bus


class Cause(enum.Enum):
    """Why a guest is over; the text is for a person."""

    RESET = "the guest reset the machine"
    POWER_OFF = "the guest powered off"
    HALT = "the guest halted for good"
    TRIPLE_FAULT = "triple fault"
    EMULATION = "an instruction that this KVM cannot execute"
    INTERNAL_ERROR = "KVM internal error"
    FAIL_ENTRY = "the CPU refused to enter the guest"
    UNKNOWN_EXIT = "an exit that Corral does not know"

    @property
    def clean(self) -> bool:
        """Whether the guest ended by its own will."""
        return self in (Cause.RESET, Cause.POWER_OFF, Cause.HALT)


class GuestEnded(Exception):
    """Raised by a device or a handler: this guest is over."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        self.cause = cause
        self.detail = detail
        super().__init__(cause.value + (f" ({detail})" if detail else ""))


NAMES = {
    getattr(lib, name): name.removeprefix("KVM_EXIT_")
    for name in dir(lib)
    if name.startswith("KVM_EXIT_") and not name.startswith("KVM_EXIT_IO_")
}

INTERNAL_ERROR_EMULATION = 1


def dispatch(run: CData, ports: Bus, mmio: Bus) -> None:
    """Handles the exit that `run` (struct kvm_run *) holds. Raises GuestEnded when it is the guest's last."""
    reason = run.exit_reason
    if reason == lib.KVM_EXIT_IO:
        _port(run, ports)
    elif reason == lib.KVM_EXIT_MMIO:
        _mmio(run, mmio)
    elif reason != lib.KVM_EXIT_INTR:
        raise _end(run, reason)


def _port(run: CData, ports: Bus) -> None:
    io = run.io
    size, count = io.size, io.count
    # A string instruction gives count elements at once, one after the other (api.rst, 5: KVM_EXIT_IO).
    data = ffi.buffer(ffi.cast("uint8_t *", run) + io.data_offset, size * count)
    for at in range(0, size * count, size):
        if io.direction == lib.KVM_EXIT_IO_IN:
            data[at : at + size] = ports.read(io.port, size).to_bytes(size, "little")
        else:
            ports.write(io.port, size, int.from_bytes(data[at : at + size], "little"))


def _mmio(run: CData, mmio: Bus) -> None:
    access = run.mmio
    size = min(access.len, 8)
    data = ffi.buffer(access.data, 8)
    if access.is_write:
        mmio.write(access.phys_addr, size, int.from_bytes(data[:size], "little"))
    else:
        data[:size] = mmio.read(access.phys_addr, size).to_bytes(size, "little")


def _end(run: CData, reason: int) -> GuestEnded:
    if reason == lib.KVM_EXIT_SHUTDOWN:
        return GuestEnded(Cause.TRIPLE_FAULT)
    if reason == lib.KVM_EXIT_HLT:
        return GuestEnded(Cause.HALT)
    if reason == lib.KVM_EXIT_FAIL_ENTRY:
        return GuestEnded(Cause.FAIL_ENTRY, f"reason {run.fail_entry.hardware_entry_failure_reason:#x}")
    if reason == lib.KVM_EXIT_INTERNAL_ERROR:
        if run.internal.suberror == INTERNAL_ERROR_EMULATION:
            return GuestEnded(Cause.EMULATION)
        return GuestEnded(Cause.INTERNAL_ERROR, f"suberror {run.internal.suberror}")
    return GuestEnded(Cause.UNKNOWN_EXIT, NAMES.get(reason, str(reason)))
