"""COM1, a 16550A. Its registers live in csrc/uart.c; here is its life and the host's side of the line."""

from __future__ import annotations

from corral.errors import HostError
from corral.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu

CHUNK = 64 * 1024


class Serial:
    """`vm_fd` < 0 makes a UART without interrupts, for tests without KVM."""

    def __init__(self, vm_fd: int, gsi: int) -> None:
        self._uart = lib.corral_uart_create(vm_fd, gsi)
        if self._uart == ffi.NULL:
            raise HostError("cannot make a serial port: no memory or file descriptors left; see ulimit -n")
        self._buffer = ffi.new("uint8_t[]", CHUNK)

    def close(self) -> None:
        """After every vCPU that it was attached to is closed."""
        lib.corral_uart_destroy(self._uart)
        self._uart = ffi.NULL

    def attach(self, vcpu: Vcpu, ports: tuple[int, int]) -> None:
        """Lets `vcpu` finish accesses to the registers in C."""
        vcpu.claim_ports(*ports, lib.corral_uart_pio, self._uart)

    def fileno(self) -> int:
        """A descriptor to poll: readable when drain() has something."""
        return lib.corral_uart_output_fd(self._uart)

    def drain(self) -> bytes:
        """What the guest sent since the last call, up to 64 KiB; one reader at a time."""
        count = lib.corral_uart_drain(self._uart, self._buffer, CHUNK)
        return bytes(ffi.buffer(self._buffer, count))

    def offer(self, data: bytes) -> int:
        """Types `data` to the guest; returns how many bytes were taken. Offer the rest later."""
        return lib.corral_uart_offer(self._uart, data, len(data))

    def hang_up(self) -> None:
        """Drops the carrier, for good. Linux hangs up a terminal that minds (`stty -clocal`): what runs there gets
        SIGHUP. From any thread, and from a signal handler."""
        lib.corral_uart_hang_up(self._uart)

    def stats(self) -> dict[str, int]:
        """Bytes: sent and dropped (the guest's output), received and refused (its input)."""
        stats = ffi.new("struct corral_uart_stats *")
        lib.corral_uart_stats(self._uart, stats)
        return {name: getattr(stats, name) for name in ("sent", "dropped", "received", "refused")}
