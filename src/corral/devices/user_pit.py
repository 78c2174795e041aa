"""An 8254 timer that counts and does not tick: counter 0 raises no interrupt. For guests with split interrupt
controllers, which take their time from KVM and touch this to see what is there, or to have it quiet.

Source: Intel 8254 datasheet; port 0x61 as a PC has it. Counters are read by the host's clock: nothing runs meanwhile.
"""

from __future__ import annotations

from time import monotonic_ns

from corral.startup.record import record
from corral.startup.threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FREQUENCY = 1_193_182  # ticks a second
CONTROL, SPEAKER = 3, 0x21  # offsets from 0x40, where the counters 0 to 2 are
LOW, HIGH, BOTH = 1, 2, 3  # bytes of a counter that are read and written, as in a control word
READ_BACK = 3  # in the place of a counter's number
NOT_COUNT, NOT_STATUS = 1 << 5, 1 << 4  # of a read-back command
REFRESH_NS = 15_085  # memory is refreshed once in it; bit 4 of port 0x61 changes each time


@record(frozen=True)
class CounterState:
    """`count` is 1 to 65,536, `ticks` those since it was loaded; `latch` and `status` are -1 where none is latched.
    `second`: bits 0 and 1, the next byte that is read or written is the high one; `low` is the one written before."""

    mode: int
    access: int
    bcd: int
    count: int
    ticks: int
    gate: int
    latch: int
    status: int
    second: int
    low: int


@record(frozen=True)
class UserPitState:
    counters: tuple[CounterState, ...]
    speaker: int


class _Counter:
    """`now` gives nanoseconds."""

    def __init__(self, now: Callable[[], int], state: CounterState) -> None:
        self._now = now
        self.restore(state)

    def restore(self, state: CounterState) -> None:
        self.mode, self.access, self.bcd, self.count = state.mode & 7, state.access & 3, state.bcd & 1, state.count
        if not 1 <= state.count <= 0x10000 or self.mode > 5 or not self.access or not 0 <= state.ticks < 1 << 63:
            raise ValueError("a timer has no such state")
        self.gate, self._latch, self._status = state.gate & 1, min(state.latch, 0xFFFF), min(state.status, 0xFF)
        self._second, self._low = state.second & 3, state.low & 0xFF
        self._start(state.ticks)

    def save(self) -> CounterState:
        modes = self.mode, self.access, self.bcd, self.count, self._ticks(), self.gate
        return CounterState(*modes, self._latch, self._status, self._second, self._low)

    def _start(self, ticks: int = 0) -> None:
        self._held = ticks  # while the gate keeps it from counting
        self._zero = self._now() + -ticks * 1_000_000_000 // FREQUENCY  # not less than they take

    @property
    def _counts(self) -> bool:
        return bool(self.gate) or self.mode in (1, 5)  # those are started by the gate, and go on without

    def _ticks(self) -> int:
        return (self._now() - self._zero) * FREQUENCY // 1_000_000_000 if self._counts else self._held

    def set_gate(self, gate: int) -> None:
        ticks, rises = self._ticks(), gate and not self.gate
        self.gate = gate
        self._start(0 if rises and self.mode in (1, 2, 3, 5) else ticks)

    @property
    def out(self) -> int:
        ticks = self._ticks()
        if self.mode in (0, 1):
            return int(ticks >= self.count)
        if self.mode in (4, 5):
            return int(ticks != self.count)
        if not self.gate:
            return 1
        at = ticks % self.count
        return int(at < (self.count + 1) // 2 if self.mode == 3 else at != self.count - 1)

    @property
    def _value(self) -> int:
        ticks, turn = self._ticks(), 10_000 if self.bcd else 0x10000
        if self.mode == 3:
            value = self.count - 2 * ticks % self.count & ~1
        elif self.mode == 2:
            value = self.count - ticks % self.count
        else:
            value = self.count - ticks
        value %= turn
        return int(f"{value:04d}", 16) if self.bcd else value

    def control(self, word: int) -> None:
        access = word >> 4 & 3
        if not access:
            self.latch()
            return
        mode, ticks = word >> 1 & 7, self._ticks()
        self.mode = mode - 4 if mode > 5 else mode  # modes 2 and 3 have a "don't care" bit
        self.access, self.bcd, self._second = access, word & 1, 0
        self._start(ticks)
        self._latch = self._status = -1

    def latch(self) -> None:
        if self._latch < 0:
            self._latch = self._value

    def latch_status(self) -> None:
        if self._status < 0:
            self._status = self.out << 7 | self.access << 4 | self.mode << 1 | self.bcd

    def read(self) -> int:
        if self._status >= 0:
            status, self._status = self._status, -1
            return status
        value = self._value if self._latch < 0 else self._latch
        if self.access == BOTH:
            self._second ^= 1
            if self._second & 1:
                return value & 0xFF
        self._latch = -1
        return value & 0xFF if self.access == LOW else value >> 8

    def write(self, byte: int) -> None:
        if self.access == BOTH:
            self._second ^= 2
            if self._second & 2:
                self._low = byte
                return
            written = byte << 8 | self._low
        else:
            written = byte << 8 if self.access == HIGH else byte
        if self.bcd:
            digits = (min(written >> shift & 0xF, 9) for shift in (12, 8, 4, 0))
            written = int("".join(map(str, digits)))
        self.count = written or (10_000 if self.bcd else 0x10000)
        self._start()


# What a BIOS leaves, as pit.py has it: mode, bytes, count, gate.
_LEFT = ((3, BOTH, 0x10000, 1), (2, LOW, 18, 1), (3, BOTH, 0x10000, 0))


class UserPit:
    """Ports 0x40 to 0x43, and 0x61 that gates counter 2 and the speaker, which is not there."""

    def __init__(self, now: Callable[[], int] = monotonic_ns) -> None:
        self._now = now
        self._lock = allocate_lock()  # two vCPUs may come at once
        self._speaker = 0
        self._counters = [
            _Counter(now, CounterState(mode, access, 0, count, 0, gate, -1, -1, 0, 0))
            for mode, access, count, gate in _LEFT
        ]

    def save(self) -> UserPitState:
        with self._lock:
            return UserPitState(tuple(counter.save() for counter in self._counters), self._speaker)

    def restore(self, state: UserPitState) -> None:
        """Raises ValueError for a state that no timer has."""
        with self._lock:
            for counter, saved in zip(self._counters, state.counters, strict=True):
                counter.restore(saved)
            self._speaker = state.speaker & 2

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            if offset == SPEAKER:
                second = self._counters[2]
                refresh = self._now() // REFRESH_NS & 1
                return second.out << 5 | refresh << 4 | self._speaker | second.gate
            return 0 if offset == CONTROL else self._counters[offset].read()

    def write(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        with self._lock:
            if offset == SPEAKER:
                self._speaker = value & 2
                self._counters[2].set_gate(value & 1)
            elif offset < CONTROL:
                self._counters[offset].write(value)
            elif value >> 6 == READ_BACK:
                for number, counter in enumerate(self._counters):
                    if value & 2 << number:
                        self._read_back(counter, value)
            else:
                self._counters[value >> 6].control(value)

    @staticmethod
    def _read_back(counter: _Counter, command: int) -> None:
        if not command & NOT_COUNT:
            counter.latch()
        if not command & NOT_STATUS:
            counter.latch_status()
