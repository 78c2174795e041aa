"""What of a host a guest depends on."""

from __future__ import annotations

from corral.arch.x86_64 import cpuid
from corral.kvm.system import Kind
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.system import System


@record(frozen=True)
class Host:
    """`boot`: the host's boot, whose time-stamp counter goes on; "" where a guest can be given another."""

    kind: str
    cpu: str
    boot: str


_known: Host | None = None  # it stays the same, and in a jail nothing can be read


def host_of(system: System) -> Host:
    """This one. A guest of a pagetable KVM reads the host's own time-stamp counter, which goes on until it boots."""
    global _known
    if _known is None:
        boot = ""
        if system.kind is Kind.PAGETABLE:
            with open("/proc/sys/kernel/random/boot_id") as text:
                boot = text.read().strip()
        _known = Host(system.kind.value, cpuid.model(), boot)
    return _known
