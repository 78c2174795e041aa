"""Two ports of a guest with a BIOS: by one its option ROM asks for the program to boot, by the other it resets."""

from __future__ import annotations

from corral.core.exits import Cause, GuestEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RESET_CPU = 1 << 2  # of the reset control register (82371SB datasheet, 2.5.3): a write that sets it resets


class Handover:
    """One write-only byte port: each write calls `hand_over`."""

    def __init__(self, hand_over: Callable[[], None]) -> None:
        self._hand_over = hand_over

    def read(self, offset: int, size: int) -> int:
        return (1 << size * 8) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self._hand_over()


class ResetControl:
    """Raises GuestEnded when the guest resets."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if value & RESET_CPU:
            raise GuestEnded(Cause.RESET)
