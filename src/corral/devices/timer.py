"""Which 8254 a machine has: KVM's, or one that counts and does not tick (docs/design.md, "Interrupt controllers")."""

from __future__ import annotations

from corral.arch.x86_64 import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import Bus
    from corral.devices.pit import LatePit
    from corral.devices.user_pit import UserPit
    from corral.kvm.vm import Vm


def connect(ports: Bus, vm: Vm, split: bool, ticks: bool) -> LatePit | UserPit:
    """The one of this machine, at its ports. `split`: its interrupt controllers are. `ticks`: its guest may wait for
    the timer's without a look at it."""
    pit: LatePit | UserPit
    if split:
        from corral.devices import user_pit

        pit = user_pit.UserPit()
    else:
        from corral.devices.pit import LatePit

        pit = LatePit(vm)
        if ticks:
            pit.make()
    for first, last in layout.PIT_PORTS:
        ports.claim(first, last, pit, first - 0x40, owner="the timer")
    return pit
