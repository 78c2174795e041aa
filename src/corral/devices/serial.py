"""COM1, a 16550A. Its registers live in csrc/uart/uart.c; here is its life and the host's side of the line."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.native import CData, Handle, ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import InC

CHUNK = 64 * 1024
REGISTERS = 8


@record(frozen=True)
class SerialState:
    """The registers, and what was received and not read yet; what is on its way to or from the far end is not in it."""

    ier: int
    lcr: int
    mcr: int
    msr: int
    scr: int
    dll: int
    dlm: int
    fifos: int
    thre_pending: int
    overrun: int
    hung_up: int
    trigger: int
    polls: int
    fifo: bytes


class Serial:
    """`vm_fd` < 0 makes a UART without interrupts, for tests without KVM. `ioapic` is the VM's, NULL where KVM has one.
    Raises ClosedError after close()."""

    def __init__(self, vm_fd: int, gsi: int, ioapic: CData = ffi.NULL) -> None:
        uart = lib.corral_uart_create(vm_fd, gsi, ioapic)
        if uart == ffi.NULL:
            from corral import os_errors

            raise HostError(f"cannot make a serial port: {os_errors.of_c(ffi.errno)}")
        self._uart = Handle(uart, lib.corral_uart_destroy)
        self._buffer = ffi.new("uint8_t[]", CHUNK)

    def close(self) -> None:
        """After every vCPU of its VM is closed."""
        self._uart.close()

    @property
    def in_c(self) -> tuple[InC, ...]:
        """All its registers (Bus.claim)."""
        return ((0, REGISTERS - 1, lib.corral_uart_pio, self._uart.value),)

    def watch(self) -> int:
        """A descriptor to poll, readable when drain() has something. The caller closes it."""
        return int(self._uart.call(_copy_of_output))

    def watch_room(self) -> int:
        """The same, readable when there is room again for what offer() did not take."""
        return int(self._uart.call(_copy_of_room))

    def drain(self) -> bytes:
        """What the guest sent since the last call, up to 64 KiB; one reader at a time."""
        count = self._uart.call(lib.corral_uart_drain, self._buffer, CHUNK)
        return bytes(ffi.buffer(self._buffer, count))

    def offer(self, data: bytes) -> int:
        """Types `data` to the guest; returns how many bytes were taken. Offer the rest when there is room again."""
        return int(self._uart.call(lib.corral_uart_offer, data, len(data)))

    def hang_up(self) -> None:
        """Drops the carrier, for good. Linux hangs up a terminal that minds (`stty -clocal`): what runs there gets
        SIGHUP. From any thread, and from a signal handler."""
        self._uart.call(lib.corral_uart_hang_up)

    def save(self) -> SerialState:
        state = ffi.new("struct corral_uart_state *")
        self._uart.call(lib.corral_uart_save, state)
        received = bytes(ffi.buffer(state.fifo))[: state.fifo_used]
        return SerialState(**{name: getattr(state, name) for name in _REGISTERS}, fifo=received)

    def restore(self, state: SerialState) -> None:
        """Raises ValueError for a state that no UART has."""
        values = {name: getattr(state, name) & 0xFF for name in _REGISTERS}
        native = ffi.new("struct corral_uart_state *", values)
        if len(state.fifo) > len(native.fifo):
            raise ValueError(f"a FIFO of {len(state.fifo)} bytes")
        native.fifo_used = len(state.fifo)
        ffi.buffer(native.fifo)[: len(state.fifo)] = state.fifo
        if self._uart.call(lib.corral_uart_restore, native) < 0:
            raise ValueError("a serial port has no such state")

    def stats(self) -> dict[str, int]:
        """Bytes: sent and dropped (the guest's output), received and refused (its input)."""
        stats = ffi.new("struct corral_uart_stats *")
        self._uart.call(lib.corral_uart_stats, stats)
        return {name: getattr(stats, name) for name in ("sent", "dropped", "received", "refused")}


def _copy_of_output(uart: CData) -> int:
    return os.dup(lib.corral_uart_output_fd(uart))


def _copy_of_room(uart: CData) -> int:
    return os.dup(lib.corral_uart_room_fd(uart))


_REGISTERS = tuple(name for name in SerialState.__annotations__ if name != "fifo")
