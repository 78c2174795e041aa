"""Which function an address of a kernel is in, and where a symbol is: by System.map, symbol table or kallsyms."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect
from functools import cached_property
from operator import itemgetter

from corral.errors import BootError, ConfigError, CorralError
from corral.files.file import Flaw
from corral.symbols.names import Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.symbols.kernel_image import KernelImage

Row = tuple[int, str, str]  # address, kind as nm tells it, name

_LARGEST_MAP = 32 << 20  # bytes
_LARGEST_SEGMENT = 64 << 20
KERNEL_MAP = 0xFFFFFFFF80000000  # Documentation/arch/x86/x86_64/mm.rst
_BOUNDARIES = {"_text", "_stext", "_etext", "_sinittext", "_einittext"}  # they name no function


class UnusableSymbols(BootError):
    """Of symbols that are there."""


class Symbols:
    """Of rows in the order of addresses. Raises BootError when there is no function among them; `source` names them."""

    def __init__(self, rows: Iterable[Row], source: str) -> None:
        self._rows = list(rows)
        text = [row for row in self._rows if row[1] in "tT" and row[2] not in _BOUNDARIES]
        if not text:
            raise BootError(f"{source!r} has no functions; name the kernel's System.map")
        self._addresses = [address for address, _, _ in text]
        self._names = [name for _, _, name in text]
        last = text[-1][0]
        after = bisect(self._rows, last, key=itemgetter(0))
        self._end = self._rows[after][0] if after < len(self._rows) else last + 4096
        self._mapped = KERNEL_MAP if text[0][0] >= KERNEL_MAP else 0

    @cached_property
    def _places(self) -> dict[str, int]:
        """Of several by a name, the first."""
        return {name: address for address, _, name in reversed(self._rows)}

    @cached_property
    def _functions(self) -> list[tuple[int, str]]:
        return [(address, name) for address, _, name in self._rows if name not in _BOUNDARIES]

    def known(self, name: str) -> int | None:
        """address(), None for a name that is not there."""
        return self._places.get(name)

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
        at = bisect(self._functions, (address, "\x7f")) - 1
        if at < 0 or address - self._functions[at][0] >= 1 << 16:
            return None
        start, name = self._functions[at]
        return f"{name}+{address - start:#x}" if address > start else name

    def _linked(self, address: int) -> int:
        # Before Linux runs where it is linked it runs where it is loaded.
        return address + self._mapped if address < self._mapped else address


def read(path: str) -> Symbols:
    """Of a System.map, or /proc/kallsyms. Raises BootError for a file that is neither."""
    return Symbols(read_rows(path), path)


def read_rows(path: str) -> list[Row]:
    """By address. Raises UnusableSymbols."""
    try:
        return sorted(_parsed(_content(path)), key=itemgetter(0))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnusableSymbols(f"{path!r} is no list of symbols: {why}; name a System.map") from None
    except Flaw as flaw:
        raise UnusableSymbols(f"{path!r} {flaw}") from None


def _content(path: str) -> bytes:
    """/proc/kallsyms is a regular file, too, and says that it is empty."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = file.read(_LARGEST_MAP + 1)
    if len(content) > _LARGEST_MAP:
        raise Flaw(f"has more than {_LARGEST_MAP >> 20} MiB; name a System.map with fewer symbols")
    return content


def _parsed(content: bytes) -> Iterator[Row]:
    names = Names(content.count(b"\n"))
    for line in content.removesuffix(b"\n").split(b"\n"):
        at, kind, name, *_ = line.split(None, 3)
        if len(at) > 16 or len(kind) > 1:
            raise ValueError("a line is no address, a letter and a name")
        yield int(at, 16), names.text(kind), names.text(name)


def of_kernel(path: str) -> Symbols | None:
    """Of a kernel file: rows_of_kernel(). None when there is no function among them."""
    rows = rows_of_kernel(path)
    return Symbols(rows, path) if any(kind in "tT" for _, kind, _ in rows) else None


def of_guest(kernel: str) -> Symbols | None:
    """Of the kernel that a guest has booted, which may be raw code or have no names: None then."""
    try:
        return of_kernel(kernel)
    except CorralError:
        return None


def rows_of_kernel(path: str) -> list[Row]:
    """From the System.map that lies beside it, as kernel packages and builds have it; else from the file itself. []
    when neither has any. Raises BootError for what is no kernel, or has more than can be."""
    folder, name = os.path.split(os.path.realpath(path))
    for candidate in ("System.map", f"System.map-{name.removeprefix('vmlinuz-')}"):
        found = os.path.join(folder, candidate)
        # Debian's packages have a line there that says where the real one is.
        if os.path.exists(found) and os.path.getsize(found) > 1024:
            return read_rows(found)
    from corral.symbols.kernel_image import KernelImage

    with KernelImage(path) as image:
        return rows_of_image(image)


def rows_of_image(image: KernelImage) -> list[Row]:
    """Those that the kernel's file has in itself, by address. Raises UnusableSymbols."""
    from corral.symbols import elf_symbols, kallsyms

    try:
        if rows := elf_symbols.find(image.file):
            return rows
        search = kallsyms.Search()
        for segment in image.elf.segments:
            if segment.file_size <= _LARGEST_SEGMENT and (rows := search.find(image.content(segment))):
                return rows
    except Flaw as flaw:
        raise UnusableSymbols(str(image.file.error(str(flaw)))) from None
    return []
