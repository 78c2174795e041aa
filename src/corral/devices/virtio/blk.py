"""virtio-blk (virtio 1.2, section 5.2): what a disk offers, and its setting up. Its requests are blk.c's."""

from __future__ import annotations

import errno
import os
import struct

from corral.devices.virtio.device import BadQueue
from corral.errors import HostError
from corral.native import CData, check, ffi, lib
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import DiskConfig
    from corral.devices.virtio.device import Queue
    from corral.disk_image import DiskImage
    from corral.irq import VirtioInterrupt
    from corral.memory import GuestMemory

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


class Disk:
    """A VirtioDevice over an open image; `name` is of its threads, `cpus` what they run on (() for any). Raises
    HostError."""

    device_id = 2

    def __init__(
        self,
        config: DiskConfig,
        image: DiskImage,
        memory: GuestMemory,
        interrupt: VirtioInterrupt,
        queues: int = 1,
        name: str = "blk",
        cpus: tuple[int, ...] = (),
    ) -> None:
        self.queue_sizes = (QUEUE_SIZE,) * min(queues, MOST_QUEUES)
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
        self._native_config = ffi.new(
            "struct corral_blk_config *",
            {
                "fd": image.fd,
                "overlay_fd": image.overlay,
                "size": image.size,
                "block_size": image.block_size,
                "read_only": config.read_only,
                "write_through": not durable_on_flush,
                "direct": config.cache == "direct",
                "id": config.serial.encode(),
                "name": name.encode(),
                "broken_fd": -1,
                "n_queues": len(self.queue_sizes),
                "ops_per_second": config.operations,
                "bytes_per_second": config.bandwidth,
            },
        )
        for cpu in cpus:
            if cpu < 64 * len(self._native_config.cpus):
                self._native_config.cpus[cpu // 64] |= 1 << cpu % 64
        self._memory, self._interrupt = memory.native, interrupt.native  # C keeps pointers to them
        self._blk = self._create()

    def close(self) -> None:
        lib.corral_blk_destroy(self._blk)

    def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
        setups = ffi.new("struct corral_virtq_setup[]", len(queues))
        for setup, queue in zip(setups, queues, strict=True):
            setup.size, setup.ready = queue.size, queue.ready
            setup.desc, setup.avail, setup.used = queue.descriptors, queue.driver, queue.device
        arguments = features, setups, ffi.new("int[]", doorbells)
        result = lib.corral_blk_start(self._blk, *arguments)
        if result < 0 and result not in (-errno.EINVAL, -errno.EFAULT) and self._use_threads():
            result = lib.corral_blk_start(self._blk, *arguments)
        if result in (-errno.EINVAL, -errno.EFAULT):
            raise BadQueue(os.strerror(-result))
        check("starting a disk", result, "free memory, or see ulimit -u")

    def stop(self) -> None:
        lib.corral_blk_stop(self._blk)

    def stats(self) -> list[QueueStats]:
        """Of each queue the counters as they are now; also while it runs."""
        counters = ffi.new("struct corral_blk_stats *")
        queues = []
        for index in range(len(self.queue_sizes)):
            check("disk counters", lib.corral_blk_stats(self._blk, index, counters))
            values = {name: getattr(counters, name) for name in QueueStats.__annotations__}
            queues.append(QueueStats(**values | {"latency": tuple(counters.latency)}))
        return queues

    @property
    def broken(self) -> bool:
        return bool(lib.corral_blk_failed(self._blk))

    def _use_threads(self) -> bool:
        """For when the host gives no io_uring for as many requests. False: it was not io_uring."""
        if self._native_config.engine == lib.CORRAL_BLK_THREADS:
            return False
        self._native_config.engine = lib.CORRAL_BLK_THREADS
        blk = lib.corral_blk_create(self._native_config, self._memory, self._interrupt)
        if blk == ffi.NULL:
            return False
        lib.corral_blk_destroy(self._blk)
        self._blk = blk
        return True

    def _create(self) -> CData:
        """With io_uring, or with threads where the host has none."""
        for engine in (lib.CORRAL_BLK_URING, lib.CORRAL_BLK_THREADS):
            self._native_config.engine = engine
            blk = lib.corral_blk_create(self._native_config, self._memory, self._interrupt)
            if blk != ffi.NULL:
                return blk
        raise HostError(f"cannot make a disk: {os.strerror(ffi.errno)}; see ulimit -n")
