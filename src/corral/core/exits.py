"""From an exit to its handler. Pure: works on any struct kvm_run, an invented one included, and needs no KVM."""

from __future__ import annotations

from struct import Struct

from corral.native import CData, ffi, lib
from corral.startup.enums import Enum
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

    from corral.core.bus import Bus

    MutableBytes = mmap.mmap | bytearray


class Cause(Enum):
    """Why a guest is over; the text is for a person."""

    RESET = "the guest reset the machine"
    POWER_OFF = "the guest powered off"
    HALT = "the guest halted for good"
    DEBUG_EXIT = "the guest wrote to its debug-exit port"
    TRIPLE_FAULT = "triple fault"
    EMULATION = "an instruction that this KVM cannot execute"
    INTERNAL_ERROR = "KVM internal error"
    FAIL_ENTRY = "the CPU refused to enter the guest"
    UNKNOWN_EXIT = "an exit that Corral does not know"

    @property
    def clean(self) -> bool:
        """Whether the guest ended by its own will."""
        return self in (Cause.RESET, Cause.POWER_OFF, Cause.HALT, Cause.DEBUG_EXIT)


class GuestEnded(Exception):
    """Raised by a device or a handler: this guest is over."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        self.cause = cause
        self.detail = detail
        super().__init__(cause.value + (f" ({detail})" if detail else ""))


class Over(Enum):
    """Why serve() came back."""

    ENDED = "the guest ended"
    TIMEOUT = "the time is over"
    QUIT = "the user asked to quit"
    CLOSED = "the console has no reader any more"


@record(frozen=True)
class Outcome:
    """How a run ended.

    `cause` is None unless the guest ended by itself, on vCPU `vcpu`. `status` is what the guest's init reported as
    the exit status of its command, None when it reported nothing.
    """

    over: Over
    cause: Cause | None = None
    detail: str = ""
    vcpu: int = 0
    status: int | None = None

    def _repr_html_(self) -> str:
        from corral import notebook

        cause = "" if self.cause is None else f"{self.cause.value} {self.detail}".strip()
        rows = [("over", self.over.value), ("because", cause), ("on vCPU", self.vcpu if self.cause else "")]
        return notebook.table([*rows, ("status", "" if self.status is None else self.status)])


INTERNAL_ERROR_EMULATION = 1
_IO, _MMIO, _INTR = lib.KVM_EXIT_IO, lib.KVM_EXIT_MMIO, lib.KVM_EXIT_INTR

# kvm_run.io: direction, size, port, count, data_offset. A field at a time through cffi takes three times as long, and
# this is the way of every access that C does not finish.
_PORT = Struct("<BBHIQ")
_PORT_AT = ffi.offsetof("struct kvm_run", "io")


def dispatch(run: CData, page: MutableBytes, ports: Bus, mmio: Bus) -> None:
    """Handles the exit that `run` (struct kvm_run *) holds. Raises GuestEnded when it is the guest's last.

    `page` is the memory that `run` points to, as long as KVM maps it: a port access has its data behind the structure.
    """
    reason = run.exit_reason
    if reason == _IO:
        _port(page, ports)
    elif reason == _MMIO:
        _mmio(run.mmio, mmio)
    elif reason != _INTR:
        raise _end(run, reason)


def _port(page: MutableBytes, ports: Bus) -> None:
    out, size, port, count, at = _PORT.unpack_from(page, _PORT_AT)
    # A string instruction gives count elements at once, one after the other (api.rst, 5: KVM_EXIT_IO).
    for _ in range(count):
        end = at + size
        if out:
            ports.write(port, size, int.from_bytes(page[at:end], "little"))
        else:
            page[at:end] = ports.read(port, size).to_bytes(size, "little")
        at = end


def _mmio(access: CData, mmio: Bus) -> None:
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
    return GuestEnded(Cause.UNKNOWN_EXIT, exit_name(reason))


def exit_reasons() -> dict[str, int]:
    """Exit reasons by name: as linux/kvm.h has them, without KVM_EXIT_."""
    names = [name for name in dir(lib) if name.startswith("KVM_EXIT_") and not name.startswith("KVM_EXIT_IO_")]
    return {name.removeprefix("KVM_EXIT_"): getattr(lib, name) for name in names}


def exit_name(reason: int) -> str:
    """The name of an exit reason, or its number."""
    return next((name for name, value in exit_reasons().items() if value == reason), str(reason))
