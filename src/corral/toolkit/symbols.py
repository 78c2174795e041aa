"""Which function an address of a kernel is in, and where a symbol is: by System.map, symbol table or kallsyms."""

from __future__ import annotations

import os
from bisect import bisect

from corral.errors import BootError, ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Row = tuple[int, str, str]  # address, kind as nm tells it, name

KERNEL_MAP = 0xFFFFFFFF80000000  # Documentation/arch/x86/x86_64/mm.rst
_BOUNDARIES = {"_text", "_stext", "_etext", "_sinittext", "_einittext"}  # they name no function


class Symbols:
    """Of rows in the order of addresses. Raises BootError when there is no function among them; `source` names them."""

    def __init__(self, rows: Iterable[Row], source: str) -> None:
        rows = list(rows)
        self._places = {name: address for address, _, name in reversed(rows)}  # of several by a name, the first
        text = [(address, name) for address, kind, name in rows if kind in "tT" and name not in _BOUNDARIES]
        if not text:
            raise BootError(f"{source!r} has no functions; name the kernel's System.map")
        self._addresses = [address for address, _ in text]
        self._names = [name for _, name in text]
        last = text[-1][0]
        self._end = next((address for address, _, _ in rows if address > last), last + 4096)
        self._all = [(address, name) for address, _, name in rows if name not in _BOUNDARIES]
        self._mapped = KERNEL_MAP if text[0][0] >= KERNEL_MAP else 0

    def address(self, name: str) -> int:
        """Of a function or a variable. Raises ConfigError for a name that is not there."""
        if name not in self._places:
            from difflib import get_close_matches

            near = get_close_matches(name, self._places, 3)
            raise ConfigError(f"this kernel has no symbol {name!r}" + (f"; it has {', '.join(near)}" if near else ""))
        return self._places[name]

    def place(self, text: str) -> int:
        """Of `name`, `name+offset` or an address, as people write them. Raises ConfigError."""
        name, plus, offset = text.partition("+")
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return self.address(name) + (int(offset, 0) if plus else 0)
        except ValueError:
            raise ConfigError(f"{offset!r} is no number; write a place like schedule+0x10") from None

    def find(self, address: int) -> tuple[str, int] | None:
        """The function that an address is in, and how far in; None outside of the kernel."""
        address = self._linked(address)
        if not self._addresses[0] <= address < self._end:
            return None
        at = bisect(self._addresses, address) - 1
        return self._names[at], address - self._addresses[at]

    def end(self, address: int) -> int | None:
        """Where the function ends that an address is in: the next one's beginning. None outside of the kernel."""
        linked = self._linked(address)
        if not self._addresses[0] <= linked < self._end:
            return None
        return address - linked + [*self._addresses, self._end][bisect(self._addresses, linked)]

    def text(self, address: int) -> str:
        """`function+0x1f`, or the address itself."""
        found = self.find(address)
        if found is None:
            return f"{address:#x}"
        name, offset = found
        return f"{name}+{offset:#x}" if offset else name

    def near(self, address: int) -> str | None:
        """`name`, or `name+0x8`, of whatever it is that an address less than 64 KiB behind its beginning is in."""
        at = bisect(self._all, (address, "\x7f")) - 1
        if at < 0 or address - self._all[at][0] >= 1 << 16:
            return None
        start, name = self._all[at]
        return f"{name}+{address - start:#x}" if address > start else name

    def _linked(self, address: int) -> int:
        # Before Linux runs where it is linked it runs where it is loaded.
        return address + self._mapped if address < self._mapped else address


def read(path: str) -> Symbols:
    """Of a System.map, or /proc/kallsyms. Raises BootError for a file that is neither."""
    return Symbols(read_rows(path), path)


def read_rows(path: str) -> list[Row]:
    """By address. Raises BootError."""
    try:
        with open(path) as file:
            rows = [line.split()[:3] for line in file]
        return sorted((int(at, 16), kind, name) for at, kind, name in rows)
    except (OSError, ValueError) as error:
        raise BootError(f"{path!r} is no list of symbols: {error}; name a System.map") from None


def of_kernel(path: str) -> Symbols | None:
    """Of a kernel file: rows_of_kernel()."""
    rows = rows_of_kernel(path)
    return Symbols(rows, path) if rows else None


def rows_of_kernel(path: str) -> list[Row]:
    """From the System.map that lies beside it, as kernel packages and builds have it; else from the file itself. []
    when neither has any. Raises BootError for what is no kernel."""
    folder, name = os.path.split(os.path.realpath(path))
    for candidate in ("System.map", f"System.map-{name.removeprefix('vmlinuz-')}"):
        found = os.path.join(folder, candidate)
        # Debian's packages have a line there that says where the real one is.
        if os.path.exists(found) and os.path.getsize(found) > 1024:
            return read_rows(found)
    from corral.toolkit import elf_symbols, kallsyms
    from corral.toolkit.kernel_image import KernelImage

    with KernelImage(path) as image:
        if rows := elf_symbols.find(image.file, image.elf.bits):
            return rows
        for segment in image.elf.segments:
            if rows := kallsyms.find(image.file.read(segment.offset, segment.file_size)):
                return rows
    return []
