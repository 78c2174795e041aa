"""Which function an address of a Linux kernel is in, by its System.map."""

from __future__ import annotations

import os
from bisect import bisect

from corral.errors import BootError, ConfigError

KERNEL_MAP = 0xFFFFFFFF80000000  # Documentation/arch/x86/x86_64/mm.rst
_BOUNDARIES = {"_text", "_stext", "_etext", "_sinittext", "_einittext"}  # they name no function


class Symbols:
    """Text symbols of a System.map (or of /proc/kallsyms). Raises BootError for a file that is neither."""

    def __init__(self, path: str) -> None:
        try:
            with open(path) as file:
                rows = [line.split()[:3] for line in file]
            self._places = {name: int(at, 16) for at, _, name in reversed(rows)}  # of several by a name, the first
            text = sorted((int(at, 16), name) for at, kind, name in rows if kind in "tT" and name not in _BOUNDARIES)
        except (OSError, ValueError) as error:
            raise BootError(f"{path!r} is no list of symbols: {error}; name a System.map") from None
        if not text:
            raise BootError(f"{path!r} has no functions; name the kernel's System.map")
        self._addresses = [address for address, _ in text]
        self._names = [name for _, name in text]
        self.first, self.last = self._addresses[0], self._addresses[-1]

    def address(self, name: str) -> int:
        """Of a function or a variable. Raises ConfigError for a name that is not there."""
        if name not in self._places:
            from difflib import get_close_matches

            near = get_close_matches(name, self._places, 3)
            raise ConfigError(f"this kernel has no symbol {name!r}" + (f"; it has {', '.join(near)}" if near else ""))
        return self._places[name]

    def find(self, address: int) -> tuple[str, int] | None:
        """The function that an address is in, and how far in; None outside of the kernel."""
        if address < KERNEL_MAP:  # before the kernel runs where it is linked it runs where it is loaded
            address += KERNEL_MAP
        if not self.first <= address < self.last:
            return None
        at = bisect(self._addresses, address) - 1
        return self._names[at], address - self._addresses[at]

    def text(self, address: int) -> str:
        """`function+0x1f`, or the address itself."""
        found = self.find(address)
        if found is None:
            return f"{address:#x}"
        name, offset = found
        return f"{name}+{offset:#x}" if offset else name


def of_kernel(path: str) -> Symbols | None:
    """Those of a kernel file, when its System.map lies beside it as kernel packages and builds have it."""
    folder, name = os.path.split(os.path.realpath(path))
    release = name.removeprefix("vmlinuz-")
    for candidate in ("System.map", f"System.map-{release}"):
        if os.path.exists(found := os.path.join(folder, candidate)):
            return Symbols(found)
    return None
