"""From a request to a MachineConfig: what `corral boot`, corral.linux() and all others call that boot a guest.

A caller with something to do between the steps, like making the VM while the kernel is chosen, takes them one by one:
draft() says what is wrong with a request, resolved() fetches and builds a distribution, with_kernel() does all else.
"""

from __future__ import annotations

from corral.launch.draft import Draft, draft
from corral.launch.events import ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.launch.events import Tell
    from corral.launch.request import BootRequest
    from corral.numa.plan import Plan


def configure(request: BootRequest, tell: Tell = ignore) -> MachineConfig:
    """The machine that is asked for. Kernels and distributions that are not there yet are fetched or built, which takes
    minutes. CPUs that are planned are not claimed: for that take a corral.numa.claims.Claims. Raises ConfigError,
    BootError, HostError."""
    found = resolved(draft(request, tell), tell)
    placement, plan = found.placement(), None
    if placement is not None:
        from corral.numa.host import read
        from corral.numa.placement import place

        plan = place(read(), placement)
    return with_kernel(found, plan, tell)


def resolved(found: Draft, tell: Tell = ignore) -> Draft:
    """With files where its kernel is the name of a distribution, or "host". Raises ConfigError, HostError."""
    if not found.is_named:
        return found
    from corral.launch import distribution

    return draft(distribution.resolve(found.request, tell))


def with_kernel(found: Draft, plan: Plan | None, tell: Tell = ignore) -> MachineConfig:
    """The draft's machine with what it boots, by that plan of where it is on the host. Raises ConfigError, BootError,
    HostError."""
    if found.machine.snapshot is not None:
        return found.machine
    from corral.launch import bios

    if bios.is_wanted(found):
        return bios.configure(found, plan, tell)
    from corral.launch import kernel

    if found.request.kernel is None and found.root is not None:
        from corral.launch import disk_kernel

        chosen = disk_kernel.choose(found, found.root, tell)
    else:
        chosen = kernel.choose(found, tell)
    return kernel.configure(found, chosen, plan, tell)
