"""A UART with no machine around it, driven register by register as a guest's driver would."""

from __future__ import annotations

from corral.devices.serial import Serial
from corral.native import ffi, lib

DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)
LSR_DATA, LSR_OVERRUN, LSR_THRE = 1, 2, 0x20
IIR_NONE, IIR_THRE, IIR_DATA, IIR_LINE, IIR_TIMEOUT, IIR_MODEM = 1, 2, 4, 6, 12, 0
LOOP, OUT2, RTS = 0x10, 0x08, 0x02


class BareUart(Serial):
    """A Serial without interrupts and without KVM."""

    def __init__(self) -> None:
        super().__init__(vm_fd=-1, gsi=4)

    def out(self, register: int, value: int, size: int = 1) -> None:
        assert lib.corral_uart_pio(self._uart.value, True, register, size, ffi.new("uint32_t *", value))

    def inp(self, register: int, size: int = 1) -> int:
        value = ffi.new("uint32_t *")
        assert lib.corral_uart_pio(self._uart.value, False, register, size, value)
        return int(value[0]) & ((1 << 8 * size) - 1)

    def cause(self) -> int:
        """The interrupt that IIR reports, without the bits that say that FIFOs are on."""
        return self.inp(IIR_FCR) & 0x0F
