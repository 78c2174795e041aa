"""Interrupt lines that any thread can raise: an eventfd that KVM turns into an edge (api.rst, KVM_IRQFD)."""

from __future__ import annotations

import os

from corral.native import CData, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm


class VirtioInterrupt:
    """The line `gsi` of `vm`, and the status register that goes with it. Without a VM, for tests: the eventfd alone.

    `native` is the struct corral_virtio_irq that C workers and vCPUs share.
    """

    def __init__(self, vm: Vm | None, gsi: int) -> None:
        self.gsi = gsi
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.native: CData = ffi.new("struct corral_virtio_irq *", {"fd": self.fd})
        if vm is not None:
            try:
                vm.irqfd(gsi, self.fd)
            except BaseException:
                self.close()
                raise

    @property
    def status(self) -> int:
        """InterruptStatus: which of USED_BUFFER and CONFIG_CHANGE are not acknowledged."""
        value = ffi.new("uint32_t *")
        lib.corral_virtio_irq_access(self.native, False, 0, 4, value)
        return int(value[0])

    def acknowledge(self, bits: int) -> None:
        lib.corral_virtio_irq_access(self.native, True, 4, 4, ffi.new("uint32_t *", bits))

    def close(self) -> None:
        """After every thread that may raise it has ended."""
        os.close(self.fd)
