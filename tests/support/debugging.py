"""What this host's KVM can do for a debugger."""

from __future__ import annotations

from corral.kvm.system import System
from corral.toolkit.host_debugging import of_host


def breakpoints_are_fast() -> bool:
    """False: they are done by single steps, too slow for a boot of Linux (docs/hosts.md, "Guest debugging")."""
    system = System()
    try:
        return of_host(system.kind).execution
    finally:
        system.close()
