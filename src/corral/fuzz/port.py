"""The ports by which a target tells its area, asks for input, and tells a crash (guests/fuzz/corral_fuzz.h)."""

from __future__ import annotations

import time

from corral.fuzz.area import MAGIC
from corral.startup.enums import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PORTS = range(0x5F0, 0x5FC)
_LOW, _HIGH, _COMMAND = 0, 4, 8
_NEXT, _CRASH = 1, 2
_NOT_RUNNING = float("inf")


class Said(Enum):
    """What a target has stopped for."""

    WAITS = "it waits for input"
    CRASHED = "it tells a crash"


class FuzzPort:
    """The device. The vCPU's thread calls it.

    `following` is called for each input that the target is done with, and has put the next one into the area when it
    returns True. Else the target stops, and `said` tells for what. `stop` pauses the vCPU and wakes its machine.
    `started`: when the input that the target works on was given (time.monotonic()); infinite between two of them.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.address = 0
        self.said: Said | None = None
        self.started = _NOT_RUNNING
        self.following: Callable[[], bool] | None = None
        self._stop = stop

    def read(self, offset: int, size: int) -> int:
        return MAGIC if offset == _COMMAND else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == _COMMAND and value == _NEXT:
            self.started = _NOT_RUNNING
            if self.following and self.following():
                self.started = time.monotonic()
            else:
                self._say(Said.WAITS)
        elif offset == _COMMAND and value == _CRASH:
            self._say(Said.CRASHED)
        elif offset == _LOW and size == 4:
            self.address = self.address & ~0xFFFFFFFF | value
        elif offset == _HIGH and size == 4:
            self.address = self.address & 0xFFFFFFFF | value << 32

    def _say(self, said: Said) -> None:
        self.started = _NOT_RUNNING
        self.said = said
        self._stop()

    def begin(self) -> None:
        """The target is about to run with an input."""
        self.said = None
        self.started = time.monotonic()
