"""What a guest's process counts of it, for `corral top`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine

EXITS, READ, WRITTEN, TAKEN, GIVEN = NAMES = ("exits", "disk_read", "disk_written", "to_guest", "from_guest")
_READ, _WRITTEN = "read bytes", "written bytes"  # of disks (devices/virtio/blk.py)
_ARRIVES = ("bytes to guest", "received bytes", "bytes to stdin")
_LEAVES = ("bytes from guest", "sent bytes", "bytes from stdout", "bytes from stderr")


def text(machine: Machine) -> str:
    """Exits of its vCPUs, and bytes: from and to its disks, and by its network cards, its vsock and its channel; so
    far, all together. The machine may run."""
    counted = dict.fromkeys(NAMES, 0)
    counted[EXITS] = sum(sum(map(int, vcpu.native.exits)) for vcpu in machine.vcpus)
    for transport in machine.virtio:
        of_device = transport.device.counters()
        for kind, names in ((READ, (_READ,)), (WRITTEN, (_WRITTEN,)), (TAKEN, _ARRIVES), (GIVEN, _LEAVES)):
            counted[kind] += sum(of_device.get(name, 0) for name in names)
    return ",".join(str(counted[name]) for name in NAMES)


def parse(said: str) -> dict[str, int]:
    """Of text(). Raises ValueError."""
    numbers = [int(number) for number in said.split(",")]
    return dict(zip(NAMES, numbers, strict=True))
