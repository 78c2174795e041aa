"""Every exit of a machine's vCPUs, as records (csrc/vcpu/exit_ring.h).

    with ExitTrace(machine) as trace:
        machine.run(...)
        for exit in trace:
            print(exit)

A vCPU writes its exits to a ring of its own; a reader takes them out. What finds the ring full is counted in
`lost` and is not there: read in time, or make the ring larger.
"""

from __future__ import annotations

import errno

from corral.core.exits import exit_reasons
from corral.errors import ClosedError, ConfigError, HostError
from corral.native import Handle, ffi, lib
from corral.observe.paused_vcpu import PausedVcpu
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corral.kvm.vcpu import Vcpu
    from corral.machine import Machine
    from corral.native import CData

RING_SIZE = 1 << 16  # records a vCPU, of 56 bytes
_BATCH = 4096
_BY = {0: "C", 1: "assist", 2: "Python"}  # CORRAL_BY_, exit_ring.h

# struct corral_exit_record, for numpy.frombuffer(trace.take(vcpu), dtype=DTYPE).
DTYPE = [
    *((name, "<u8") for name in ("time", "address", "value", "rip")),
    *((name, "<u4") for name in ("guest_ns", "host_ns", "count")),
    *((name, "u1") for name in ("reason", "size", "write", "by", "cpl")),
    ("reserved", "V7"),
]


@record(frozen=True)
class TracedExit:
    """One exit. `time` is CLOCK_MONOTONIC in ns when the guest was left, `guest_ns` how long it had run by then,
    `host_ns` how long it stayed out. `reason` is KVM's, without KVM_EXIT_.

    IO and MMIO: `address`, `value`, `size` in bytes, `write`; `count` elements of a string access, of which `value`
    is the first. `rip` is as KVM reports it: of IO that is past the instruction on some hosts. `by` finished it: C,
    assist or Python. `cpl` is None when it was not asked for.
    """

    HEX = ("rip", "address", "value")

    vcpu: int
    time: int
    reason: str
    by: str
    rip: int
    cpl: int | None
    guest_ns: int
    host_ns: int
    address: int
    value: int
    size: int
    count: int
    write: bool


class ExitTrace:
    """A context manager over a machine that has not started, or is paused. `reasons`: only these, by name.

    `with_cpl` has the privilege level too, at about the cost of all the rest. `newest`: a full ring drops its oldest
    records, and is read when the vCPUs have stopped. Raises ConfigError for a reason that
    there is not, and when the machine has another trace.
    """

    def __init__(
        self,
        machine: Machine,
        reasons: Sequence[str] = (),
        size: int = RING_SIZE,
        with_cpl: bool = False,
        newest: bool = False,
    ) -> None:
        known = exit_reasons()
        for reason in reasons:
            if reason not in known:
                raise ConfigError(f"there is no exit reason {reason!r}; there are {', '.join(sorted(known))}")
        if any(vcpu.native.exit_ring != ffi.NULL for vcpu in machine.vcpus):
            raise ConfigError("this machine has a trace already; close that first, or read it")
        self._machine, self._size = machine, size
        self._names = {number: name for name, number in known.items()}
        self._rings: list[Handle] = []
        self._buffer = ffi.new("struct corral_exit_record[]", _BATCH)
        for thread in machine.threads:
            ring = lib.corral_exit_ring_create(size, with_cpl, newest)
            if ring == ffi.NULL:
                self.close()
                if ffi.errno == errno.EINVAL:
                    raise ConfigError(f"a ring of {size} records: a power of two up to 2^26 is wanted")
                raise HostError(f"no memory for {size} records a vCPU; ask for fewer")
            self._rings.append(Handle(ring, lib.corral_exit_ring_destroy, "this trace"))
            thread.vcpu.native.exit_ring = ring
        if reasons:
            self.select(reasons)

    def __repr__(self) -> str:
        return f"<ExitTrace of {self._machine!r}>"

    def close(self) -> None:
        """Takes the rings away; the vCPUs are stopped or paused meanwhile. What is left in them is gone."""
        for thread, ring in zip(self._machine.threads, self._rings, strict=False):
            if ring.closed:
                continue
            with PausedVcpu(thread):
                thread.vcpu.native.exit_ring = ffi.NULL
                try:
                    thread.vcpu.held(_no_registers)
                except ClosedError:  # the machine, before this
                    pass
            ring.close()

    def __enter__(self) -> ExitTrace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def lost(self) -> int:
        """Exits that found a full ring."""
        return sum(ring.call(lib.corral_exit_ring_lost) for ring in self._rings)

    def take(self, vcpu: int) -> bytes:
        """The oldest records of a vCPU, 4,096 at most, as they are in memory (DTYPE); b"" when there are none."""
        count = self._rings[vcpu].call(lib.corral_exit_ring_take, self._buffer, _BATCH)
        return bytes(ffi.buffer(self._buffer, count * ffi.sizeof("struct corral_exit_record")))

    def flush(self) -> None:
        """Records the exit that each vCPU is at. They are stopped, or paused."""
        for thread, ring in zip(self._machine.threads, self._rings, strict=False):
            ring.call(_flush, thread.vcpu)

    def __iter__(self) -> Iterator[TracedExit]:
        """What is there now, in the order of time, and takes it out."""
        if len(self._rings) == 1:
            return self._exits(0)
        from heapq import merge

        return merge(*(list(self._exits(vcpu)) for vcpu in range(len(self._rings))), key=lambda exit: exit.time)

    def select(self, reasons: Sequence[str]) -> None:
        """Records only these from now on; none for none."""
        known = exit_reasons()
        mask = sum(1 << known[reason] for reason in set(reasons))
        for ring in self._rings:
            ring.call(lib.corral_exit_ring_select, mask)

    def _exits(self, vcpu: int) -> Iterator[TracedExit]:
        left = self._size  # more is what a vCPU adds while this is read: without an end, if it is quicker than Python
        while count := self._rings[vcpu].call(lib.corral_exit_ring_take, self._buffer, min(left, _BATCH)):
            left -= count
            for r in self._buffer[0:count]:
                yield TracedExit(
                    *(vcpu, r.time, self._names.get(r.reason, str(r.reason)), _BY[r.by], r.rip),
                    *(None if r.cpl == lib.CORRAL_CPL_UNKNOWN else r.cpl, r.guest_ns, r.host_ns),
                    *(r.address, r.value, r.size, r.count, bool(r.write)),
                )


def _flush(ring: CData, vcpu: Vcpu) -> None:
    vcpu.held(lib.corral_exit_ring_flush)


def _no_registers(vcpu: CData) -> None:
    """KVM shall not copy registers to the run page any more."""
    vcpu.run.kvm_valid_regs = 0
