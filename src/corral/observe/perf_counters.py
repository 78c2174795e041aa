"""The host's performance counters of a thread: what perf_event_open(2) gives, and why it gives no more."""

from __future__ import annotations

import errno
import os

from corral.native import Handle, lib
from corral.startup.record import record

_HARDWARE, _SOFTWARE = 0, 1  # linux/perf_event.h, perf_type_id


@record(frozen=True)
class PerfEvent:
    """`guest_only`: while the thread is in a guest."""

    name: str
    unit: str
    type: int
    config: int
    guest_only: bool = False


EVENTS = (
    PerfEvent("time on a CPU", "ns", _SOFTWARE, 1),
    PerfEvent("context switches", "", _SOFTWARE, 3),
    PerfEvent("migrations", "", _SOFTWARE, 4),
    PerfEvent("page faults", "", _SOFTWARE, 2),
    PerfEvent("cycles", "", _HARDWARE, 0),
    PerfEvent("instructions", "", _HARDWARE, 1),
    PerfEvent("cycles in the guest", "", _HARDWARE, 0, guest_only=True),
    PerfEvent("instructions in the guest", "", _HARDWARE, 1, guest_only=True),
    PerfEvent("cache misses", "", _HARDWARE, 3),
    PerfEvent("branch misses", "", _HARDWARE, 5),
)

_REASONS = {
    errno.ENOENT: "this host has no such counter",
    errno.EOPNOTSUPP: "this host has no such counter",
    errno.EACCES: "not allowed; see /proc/sys/kernel/perf_event_paranoid",
    errno.EPERM: "not allowed; see /proc/sys/kernel/perf_event_paranoid",
    errno.ENOSYS: "this host's kernel has no perf_event_open",
    errno.ESRCH: "the thread has ended",
}


class PerfCounters:
    """Of the thread `tid` of this process, from now on. `missing` has why an event is not counted, by its name."""

    def __init__(self, tid: int) -> None:
        self.missing: dict[str, str] = {}
        self._descriptors: dict[str, Handle] = {}
        for event in EVENTS:
            result = lib.corral_perf_open(event.type, event.config, tid, event.guest_only)
            if result >= 0:
                self._descriptors[event.name] = Handle(result, os.close, "this tally")
            else:
                self.missing[event.name] = _REASONS.get(-result) or os.strerror(-result)

    def read(self) -> dict[str, int]:
        """By event; also when the thread has ended."""
        return {name: int.from_bytes(fd.call(os.read, 8), "little") for name, fd in self._descriptors.items()}

    def close(self) -> None:
        for fd in self._descriptors.values():
            fd.close()
