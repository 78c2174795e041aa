"""What a machine's devices counted, as a table for people. In Python: `Disk.stats()` and `Serial.stats()`."""

from __future__ import annotations

from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.devices.virtio.blk import QueueStats
    from corral.machine import Machine

_WORDS = ("reads", "MiB", "writes", "MiB", "flushes", "others", "merged", "errors", "interrupts", "saved")
_HEADER = ("disk", "queue", *_WORDS, "median us", "99 % us")


def text(machine: Machine) -> str:
    """How it started, a line for each queue of each disk, one for each other device that counted something, and one for
    the console. The machine may run."""
    rows: list[tuple[str, ...]] = [_HEADER]
    for disk in machine.disks:
        name = disk.name.removeprefix("disk ")
        rows += [(name, str(queue), *_cells(stats)) for queue, stats in enumerate(disk.stats())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    devices = [transport.device for transport in machine.virtio if transport.device not in machine.disks]
    counted = [(device.name, device.counters()) for device in devices]
    others = [
        f"{name}: {', '.join(f'{value} {what}' for what, value in counters.items())}"
        for name, counters in counted
        if any(counters.values())
    ]
    serial = machine.serial.stats()
    console = f"console: {serial['sent']} bytes sent, {serial['dropped']} dropped; {serial['received']} received"
    saved = machine.config.snapshot
    start = "start: booted" if saved is None else f"start: went on from {printable(saved)}"
    return "\n".join([start, *(lines if machine.disks else ["no disks"]), *others, console])


def percentile(latency: Sequence[int], share: float) -> float:
    """Microseconds within which this share (0 to 1) of the requests were done: the upper end of their bucket.

    `latency[n]` counts those that took 2^n to 2^(n+1) ns. 0 without any.
    """
    rest = share * sum(latency)
    for exponent, count in enumerate(latency):
        rest -= count
        if count and rest <= 0:
            return (2 << exponent) / 1000
    return 0.0


def _cells(stats: QueueStats) -> tuple[str, ...]:
    others = stats.discards + stats.write_zeroes + stats.get_ids + stats.others
    counts = (stats.flushes, others, stats.merged, stats.errors + stats.refused)
    return (
        *(str(stats.reads), f"{stats.read_bytes / (1 << 20):.1f}"),
        *(str(stats.writes), f"{stats.written_bytes / (1 << 20):.1f}"),
        *map(str, counts),
        *(str(stats.interrupts), str(stats.interrupts_saved)),
        *(f"{percentile(stats.latency, share):.0f}" for share in (0.5, 0.99)),
    )
