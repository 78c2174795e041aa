"""The disks of a guest in a file: which image each has, and how it is known again. What a guest has written over an
image that it shares (snapshot=on) is in the file too, as the layer of each disk that goes on."""

from __future__ import annotations

from corral.config import DiskConfig, ImageIdentity
from corral.errors import BootError, ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.devices.virtio.blk import Disk


@record(frozen=True)
class DiskState:
    """A DiskConfig and an ImageIdentity, as one. The path is absolute."""

    path: str
    read_only: bool
    snapshot: bool
    cache: str
    serial: str
    id: str
    operations: int
    bandwidth: int
    size: int
    written: int
    head: bytes


def refuse(config: DiskConfig, disk: Disk) -> None:
    """Raises ConfigError for one that cannot be saved."""
    if disk.image.is_device and not (config.read_only or config.snapshot):
        raise ConfigError(
            f"a guest that writes a block device cannot be saved, since nothing would tell that {config.path!r} was "
            "written later; add ,ro or ,snapshot=on to it"
        )


def save(config: DiskConfig, disk: Disk) -> DiskState:
    """While it is stopped, with nothing in flight. Raises HostError, BootError."""
    import os

    if not (config.read_only or config.snapshot):
        disk.image.settle()
    known = disk.image.identity()
    about = config.read_only, config.snapshot, config.cache, config.serial, config.id
    limits = config.operations, config.bandwidth
    return DiskState(os.path.abspath(config.path), *about, *limits, known.size, known.written, known.head)


def config(state: DiskState, overlay: bool) -> DiskConfig:
    """Of a disk that goes on; `overlay`: it writes to no image. Raises BootError, ConfigError for a state that no disk
    has."""
    if state.operations < 0 or state.bandwidth < 0:
        raise BootError(f"its limits of disk {state.path!r} make no sense")
    layered = state.snapshot or (overlay and not state.read_only)
    return DiskConfig(
        state.path,
        read_only=state.read_only,
        snapshot=layered,
        cache="writeback" if layered else state.cache,
        serial=state.serial,
        id=state.id,
        raw=True,  # it was found to be, or said to be, when the guest booted
        operations=state.operations,
        bandwidth=state.bandwidth,
        identity=ImageIdentity(state.size, state.written, state.head),
    )
