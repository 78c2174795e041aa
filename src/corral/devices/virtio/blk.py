"""virtio-blk (virtio 1.2, section 5.2): what a disk offers, and its setting up. Its requests are blk.c's."""

from __future__ import annotations

import os
import struct

from corral import os_errors
from corral.devices.virtio.served import SavedDevice
from corral.errors import BootError, ClosedError, HostError
from corral.native import Handle, check, ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.disk_image import DiskImage
    from corral.config import DiskConfig
    from corral.devices.virtio.device import Place

QUEUE_SIZE = 256
MOST_QUEUES = 8

# Feature bits (section 5.2.3).
SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, MQ = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 10, 1 << 12
DISCARD, WRITE_ZEROES = 1 << 13, 1 << 14

# struct virtio_blk_config (section 5.2.4): capacity, size_max, seg_max, cylinders, heads, sectors, blk_size,
# physical_block_exp, alignment_offset, min_io_size, opt_io_size, writeback, num_queues, max_discard_sectors,
# max_discard_seg, discard_sector_alignment, max_write_zeroes_sectors, max_write_zeroes_seg, write_zeroes_may_unmap.
_CONFIG = struct.Struct("<QIIHBBIBBHIBxHIIIIIB3x")


@record(frozen=True)
class QueueStats:
    """Of one queue, from the disk's making on.

    Requests by kind count when they are answered, with whatever status; bytes only of those that succeeded.
    `errors` were answered with IOERR, `refused` with UNSUPP. `merged`: the backend's call was made as
    part of another request's, which it follows in the file. `interrupts` were sent, `interrupts_saved` were not
    wanted by the driver. `rounds`: looks at the queue that found something. `latency[n]` counts requests that took
    2^n to 2^(n+1) ns from being taken to being given back.
    """

    reads: int
    writes: int
    flushes: int
    discards: int
    write_zeroes: int
    get_ids: int
    others: int
    read_bytes: int
    written_bytes: int
    errors: int
    refused: int
    merged: int
    interrupts: int
    interrupts_saved: int
    rounds: int
    latency: tuple[int, ...]


def create(config: DiskConfig, place: Place) -> Disk:
    """A disk over the image that `config` names. Raises HostError, BootError."""
    from corral.backends.disk_image import DiskImage

    image = DiskImage(config)
    try:
        return Disk(config, image, place)
    except BaseException:
        image.close()
        raise


class Disk(SavedDevice):
    """A VirtioDevice over an open image, which it closes. Raises HostError, BootError."""

    kind = "blk"
    device_id = 2

    def __init__(self, config: DiskConfig, image: DiskImage, place: Place) -> None:
        self._image, self.size = image, image.size
        self.has_layer = image.overlay >= 0  # what it writes is kept beside the image
        self.queue_sizes = (QUEUE_SIZE,) * min(place.vcpus, MOST_QUEUES)
        writable = not config.read_only
        durable_on_flush = config.cache != "writethrough"
        self.features = SEG_MAX | BLK_SIZE | TOPOLOGY
        self.features |= MQ if len(self.queue_sizes) > 1 else 0
        self.features |= DISCARD | WRITE_ZEROES if writable else RO
        self.features |= FLUSH if writable and durable_on_flush else 0
        self.config = _CONFIG.pack(
            *(image.size // 512, 0, lib.CORRAL_BLK_SEG_MAX, 0, 0, 0, image.block_size),
            *((image.physical_block_size // image.block_size).bit_length() - 1, 0, 1, 0),
            *(int(durable_on_flush), len(self.queue_sizes)),
            *(lib.CORRAL_BLK_RANGE_SECTORS_MAX, lib.CORRAL_BLK_RANGES_MAX, image.block_size // 512),
            *(lib.CORRAL_BLK_RANGE_SECTORS_MAX, lib.CORRAL_BLK_RANGES_MAX, 1),
        )
        self._place = place
        self._native_config = ffi.new(
            "struct corral_blk_config *",
            {
                "worker": self._worker(f"blk{place.slot}"),
                "fd": image.fd,
                "overlay_fd": image.overlay,
                "overlay_most": image.overlay_most,
                "size": image.size,
                "block_size": image.block_size,
                "read_only": config.read_only,
                "write_through": not durable_on_flush,
                "direct": config.cache == "direct",
                "id": config.serial.encode(),
                "n_queues": len(self.queue_sizes),
                "queue_size": QUEUE_SIZE,
                "ops_per_second": config.operations,
                "bytes_per_second": config.bandwidth,
            },
        )
        if layer := place.layer:
            if len(layer.map) != lib.corral_blk_map_size(image.size):
                raise BootError(f"disk {config.path!r}: its layer is of a disk of another size; save the guest again")
            self._layer_map = ffi.from_buffer(layer.map)
            self._native_config.layer_map = ffi.cast("uint64_t *", self._layer_map)
            self._native_config.layer_fd = layer.fd
            self._native_config.layer_offset = layer.offset
        super().__init__(config.id or f"disk {place.number}", place)

    def close(self) -> None:
        if not self._native.closed:
            super().close()
            self._image.close()

    def _create(self) -> Handle:
        """With io_uring, or with threads where the host has none."""
        try:
            return self._created_with(lib.CORRAL_BLK_URING)
        except HostError:
            return self._created_with(lib.CORRAL_BLK_THREADS)

    def _created_with(self, engine: int) -> Handle:
        self._native_config.engine = engine
        return self._made(self._native_config)

    def pause(self) -> bool:
        return int(self._call("hold")) == 0 and super().pause()

    @property
    def complaints(self) -> list[str]:
        """Why the host failed what the guest asked for, in words. Raises ClosedError."""
        trouble = ffi.new("struct corral_blk_trouble *")
        self._call("trouble", trouble)
        if trouble.overlay_full:
            most = self._image.overlay_most
            size = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
            return [f"its layer is full with {size}, and writes failed; snapshot=on,layer=SIZE gives it more"]
        if trouble.shrunk:
            return ["its image became shorter, and nothing of it is believed any more; let no other program change it"]
        if trouble.error:
            what = "its layer" if trouble.file else "its image"
            return [f"{what} failed, and with it requests of the guest: {os_errors.of_c(trouble.error)}"]
        return []

    @property
    def image(self) -> DiskImage:
        """Raises ClosedError."""
        if self._native.closed:
            raise ClosedError("this machine is closed")
        return self._image

    def save_layer(self, fd: int, map_at: int, data_at: int) -> int:
        """Writes what it has over its image to a file that is long enough, after pause(); returns how many bytes of
        data that were. Raises OSError."""
        result = int(self._call("save_layer", fd, map_at, data_at))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def stats(self) -> list[QueueStats]:
        """Of each queue the counters as they are now; also while it runs. Raises ClosedError."""
        counters = ffi.new("struct corral_blk_stats *")
        queues = []
        for index in range(len(self.queue_sizes)):
            check("disk counters", self._call("stats", index, counters))
            values = {name: getattr(counters, name) for name in QueueStats.__annotations__}
            queues.append(QueueStats(**values | {"latency": tuple(counters.latency)}))
        return queues

    def counters(self) -> dict[str, int]:
        queues = self.stats()
        fields = ("reads", "read_bytes", "writes", "written_bytes", "flushes", "errors", "interrupts")
        return {field.replace("_", " "): sum(getattr(queue, field) for queue in queues) for field in fields}
