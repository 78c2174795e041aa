"""An empty virtual machine: a VM with its interrupt controllers, no memory and no vCPU yet.

It can be made before anything else is known, and should be: making the controllers begins an SRCU grace period of some
milliseconds in the host's kernel, which the VM's first memory slot has to wait for.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.kvm.system import System


class Chassis:
    """A context manager. Raises HostError and KvmError."""

    def __init__(self) -> None:
        self.system = System()
        try:
            self.vm = self.system.create_vm()
        except BaseException:
            self.system.close()
            raise
        try:
            self.vm.set_identity_map(layout.IDENTITY_MAP)
            self.vm.set_tss_area(layout.TSS_AREA)
            self.vm.create_irqchip()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.vm.close()
        self.system.close()

    def __enter__(self) -> Chassis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
