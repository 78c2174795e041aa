"""MC146818 real-time clock and its CMOS RAM: the time of day, read only."""

from __future__ import annotations

import time

INDEX_OFFSET, DATA_OFFSET = 0, 1
REGISTER_A, REGISTER_B, REGISTER_C, REGISTER_D = 0x0A, 0x0B, 0x0C, 0x0D
CENTURY = 0x32
DIVIDER_RUNS = 0x26  # register A: 32,768 Hz time base, no update in progress
HOURS_24 = 0x02  # register B: 24 hours, and BCD since the binary bit is clear
VALID = 0x80  # register D: the battery is good


class Cmos:
    """Ports 0x70 (index; bit 7 masks NMI) and 0x71 (data). Time is the host's, in UTC."""

    def __init__(self, now: float | None = None) -> None:
        self._fixed = now
        self._index = 0

    def save(self) -> int:
        """The index; the time is the host's."""
        return self._index

    def restore(self, index: int) -> None:
        self._index = index & 0x7F

    def read(self, offset: int, size: int) -> int:
        if offset == INDEX_OFFSET:
            return 0xFF  # write only
        return self._register(self._index)

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == INDEX_OFFSET:
            self._index = value & 0x7F

    def _register(self, index: int) -> int:
        t = time.gmtime(self._fixed if self._fixed is not None else time.time())
        week_day = (t.tm_wday + 1) % 7 + 1  # Sunday is 1
        clock = {0: t.tm_sec, 2: t.tm_min, 4: t.tm_hour, 6: week_day, 7: t.tm_mday, 8: t.tm_mon}
        clock |= {9: t.tm_year % 100, CENTURY: t.tm_year // 100}
        if index in clock:
            return clock[index] // 10 << 4 | clock[index] % 10
        return {REGISTER_A: DIVIDER_RUNS, REGISTER_B: HOURS_24, REGISTER_D: VALID}.get(index, 0)
