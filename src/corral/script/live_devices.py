"""Devices written in Python, put into a machine at any time, also while the guest runs.

    @vm.mmio(range(0xD1000000, 0xD1000010))
    class Counter:
        count = 0

        def read(self, offset, size):
            self.count += 1
            return self.count

        def write(self, offset, size, value):
            self.count = value

A class is made an object of, and that is what its name then stands for. A function takes (offset, size, value), value
being None for a read. The vCPUs' threads call them; what they raise ends the guest and comes out of run_until().
"""

from __future__ import annotations

from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.core.bus import Bus
    from corral.script.jailed import ScriptJail

_MOST = {"port": 1 << 16, "MMIO": 1 << 52}


def decorator(bus: Bus, where: range | int, jail: ScriptJail | None = None) -> Callable[[Any], Any]:
    """Claims on use. What a device has as `allow` is allowed in the machine's jail (jailed.py). Raises ConfigError for
    a range that is empty, outside of the space, or not free."""
    first, last = (where, where) if isinstance(where, int) else (where.start, where.stop - 1)
    if (isinstance(where, range) and where.step != 1) or not 0 <= first <= last < _MOST[bus.name]:
        raise ConfigError(f"{where} is no range of {bus.name} addresses; give it as range(first, last + 1)")

    def put(given: Any) -> Any:
        device = given() if isinstance(given, type) else given
        registers = device if hasattr(device, "read") and hasattr(device, "write") else _Function(device)
        if jail:
            jail.allow(getattr(device, "allow", ()))
        try:
            bus.claim(first, last, registers, owner=getattr(device, "__name__", type(device).__name__))
        except ValueError as error:
            raise ConfigError(f"{error}; choose another") from None
        return device

    return put


class _Function:
    def __init__(self, function: Callable[[int, int, int | None], int | None]) -> None:
        if not callable(function):
            raise ConfigError(f"{function!r} is no device: it has no read() and write(), and cannot be called")
        self._function = function

    def read(self, offset: int, size: int) -> int:
        return self._function(offset, size, None) or 0

    def write(self, offset: int, size: int, value: int) -> None:
        self._function(offset, size, value)
