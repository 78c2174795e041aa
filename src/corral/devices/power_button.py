"""The power button of a guest with ACPI (arch/x86_64/acpi/dsdt.py): an interrupt, and no register at all."""

from __future__ import annotations

from corral.native import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm


class PowerButton:
    def __init__(self, vm: Vm, gsi: int) -> None:
        self._pressed = Event()
        try:
            vm.irqfd(gsi, self._pressed.value)
        except BaseException:
            self.close()
            raise

    def press(self) -> None:
        """What the guest makes of it is its own affair: a system shuts down, a bare kernel does nothing. From any
        thread, and from a signal handler."""
        self._pressed.signal()

    def close(self) -> None:
        self._pressed.close()
