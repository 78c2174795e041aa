"""Where a guest's init leaves the exit status of its command before it resets the machine."""

from __future__ import annotations


class StatusPort:
    """One write-only byte port. The last value written counts; None until then."""

    def __init__(self) -> None:
        self.status: int | None = None

    def read(self, offset: int, size: int) -> int:
        return (1 << size * 8) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.status = value & 0xFF
