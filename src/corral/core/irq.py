"""Interrupt lines that any thread can raise: an eventfd that KVM turns into an edge (api.rst, KVM_IRQFD)."""

from __future__ import annotations

from corral.native import CData, Event, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm


USED, CONFIG = 1, 2  # of InterruptStatus


class VirtioInterrupt:
    """The interrupts of a virtio device whose transport has one line for all of them, `gsi` of `vm`, and the status
    register that goes with it. Without a VM, for tests: the eventfd alone.

    `native` is the struct corral_virtio_irq that C workers and vCPUs share. It has an eventfd a queue: a transport with
    more lines gives it others.
    """

    def __init__(self, vm: Vm | None, gsi: int) -> None:
        self.gsi = gsi
        self.fd = Event()
        self.native: CData = ffi.new("struct corral_virtio_irq *")
        lib.corral_virtio_irq_init(self.native, self.fd.value)
        if vm is not None:
            try:
                vm.irqfd(gsi, self.fd.value)
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

    def repeat(self, bits: int) -> None:
        """What the guest had not acknowledged when it was saved: an edge that was on its way is in no other state."""
        if bits & USED:
            lib.corral_virtio_irq_used(self.native, 0)
        if bits & CONFIG:
            lib.corral_virtio_irq_config(self.native)

    def close(self) -> None:
        """After every thread that may raise it has ended."""
        lib.corral_virtio_irq_init(self.native, -1)
        self.fd.close()
