"""What `corral boot` boots when it is given no kernel: whatever this host serves best."""

from __future__ import annotations

import os

from corral.kvm.system import Kind
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.guests.kernel import KernelFile

# Guest memory in bytes. Where kernel code is interpreted each 128 MiB take 1.4 s to set up; less take as long, for then
# Linux has to set up the rest of them as a hole.
MEMORY, MEMORY_INTERPRETED = 512 << 20, 128 << 20


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
        if not found.package:
            return found
        from corral.guests import unpacked

        path = unpacked.vmlinux(found.path, os.path.basename(found.package.folder), progress)
        return kernel.KernelFile(found.name, found.version, path, found.symbols, found.package)


def choose(kind: Kind, cpus: int, disks: bool = False, acpi: bool = True) -> Choice:
    """The kernel for this kind of KVM, so many CPUs, with or without disks and ACPI."""
    if kind is Kind.PAGETABLE or disks:
        return small(kind)
    if cpus > 1 and not acpi:  # the cloud kernel reads no MP table
        return Choice("stock-generic", "the distribution's kernel, because this KVM runs any at full speed")
    return Choice("stock", "the distribution's cloud kernel, because this KVM runs any at full speed")


def small(kind: Kind) -> Choice:
    """Corral's own kernel, and why it suits this kind of KVM or a machine with disks."""
    from corral.guests import kernel

    pagetable = "this KVM runs no other at full speed"
    reason = pagetable if kind is Kind.PAGETABLE else "it has the drivers of disks built in"
    return Choice(kernel.SMALL, f"the small kernel, because {reason}")
