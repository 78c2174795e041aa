"""What `corral boot` boots when it is given no kernel: whatever this host serves best."""

from __future__ import annotations

import os

from corral.kvm.system import Kind
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.guests.kernel import KernelFile

# Guest memory in bytes. On a pagetable KVM each 128 MiB take 1.4 s to set up; less take as long, for Linux then has
# to set up the rest of them as a hole.
MEMORY = {Kind.HARDWARE: 512 << 20, Kind.PAGETABLE: 128 << 20}


@record(frozen=True)
class Choice:
    """`name` is one that kernel.get() takes; `why` is a sentence for a person."""

    name: str
    why: str

    @property
    def stock(self) -> bool:
        from corral.guests import kernel

        return self.name in kernel.STOCK_METAPACKAGES

    def get(self, progress: Callable[[str], None]) -> KernelFile:
        """Fetched or built if it is not in the cache, and ready to load. Raises HostError."""
        from corral.guests import kernel

        found = kernel.get(self.name, progress)
        if not self.stock:
            return found
        from corral.guests import unpacked

        package = os.path.basename(os.path.dirname(os.path.dirname(found.path)))  # has the package's version
        path = unpacked.vmlinux(found.path, package, progress)
        return kernel.KernelFile(found.name, found.version, path, found.symbols)


def choose(kind: Kind, cpus: int, disks: bool = False, acpi: bool = True) -> Choice:
    """The kernel for this kind of KVM, so many CPUs, with or without disks and ACPI."""
    if kind is Kind.PAGETABLE or disks:
        from corral.guests import kernel

        reason = "this KVM interprets kernel code" if kind is Kind.PAGETABLE else "it has the drivers of disks built in"
        return Choice(kernel.variant(cpus), f"the small kernel, because {reason}")
    if cpus > 1 and not acpi:  # the cloud kernel reads no MP table
        return Choice("stock-generic", "the distribution's kernel, because this KVM runs any at full speed")
    return Choice("stock", "the distribution's cloud kernel, because this KVM runs any at full speed")
