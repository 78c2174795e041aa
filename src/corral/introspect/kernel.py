"""Linux in a guest's memory: where it is, and its memory by its own addresses.

Nothing that is read there is believed: a guest may write what it likes. Each read has a bound, a list that goes on for
too long ends with an error, and a text is cut off.
"""

from __future__ import annotations

import re

from corral.arch.x86_64 import page_walk
from corral.arch.x86_64.page_walk import CR0_PG, CR4_LA57, EFER_LMA
from corral.errors import BootError
from corral.introspect.subject import KERNEL_HALF, Tables
from corral.memory import PAGE, GuestMemoryError
from corral.printable import printable
from corral.symbols import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.introspect.subject import Memory, Subject
    from corral.symbols.table import Symbols

KERNEL_MAP, KERNEL_MAP_END = 0xFFFFFFFF80000000, 0xFFFFFFFFC0000000  # Documentation/arch/x86/x86_64/mm.rst
DIRECT_MAP, DIRECT_MAP_5 = 0xFFFF888000000000, 0xFF11000000000000
VMEMMAP, VMEMMAP_5 = 0xFFFFEA0000000000, 0xFFD4000000000000
BANNER = b"Linux version "
_WINDOW = 1 << 20
_NOTE = re.compile(rb"OSRELEASE=[^\n\0]{1,64}\n[^\0]*")
MOST_NOTE = PAGE  # bytes of VMCOREINFO
LONGEST = 4096  # bytes of a text
MOST_LISTED = 1 << 16  # entries of a list


class NotLinux(BootError):
    """No Linux is found in the guest's memory, or not the one that the symbols are of."""


class DamagedKernel(BootError):
    """What the guest's kernel keeps does not make sense."""


class GuestKernel:
    """`offset` is what KASLR has added to its symbols' addresses, `phys_base` where it is loaded instead of at the
    place that it is linked for. Raises NotLinux."""

    def __init__(self, memory: Memory, symbols: Symbols) -> None:
        self.memory, self.symbols = memory, symbols
        self.offset = self.phys_base = 0
        self.note: bytes | None = None  # VMCOREINFO, where it had to be searched for
        self._image_end, self.page_offset = KERNEL_MAP_END, DIRECT_MAP
        self._top = max(start + length for start, length in memory.regions)
        if not self._has_banner():
            self._search()
        try:
            root = self._image_gpa(self.symbol("init_top_pgt"))
            level5 = self._flag("__pgtable_l5_enabled")
            self._tables = Tables(CR0_PG, root, CR4_LA57 * level5, EFER_LMA)
            self.has_five_levels = bool(level5)
            self.page_offset = self._base("page_offset_base", DIRECT_MAP_5 if level5 else DIRECT_MAP)
            self.vmemmap = self._base("vmemmap_base", VMEMMAP_5 if level5 else VMEMMAP)
        except GuestMemoryError as error:
            raise NotLinux(f"the guest's kernel is not up yet, or is damaged: {error}") from None
        self._image_end = self.symbol("_end")

    def _has_banner(self) -> bool:
        address = self.symbols.known("linux_banner")
        try:
            return address is not None and self.memory.read(self._image_gpa(address), len(BANNER)) == BANNER
        except GuestMemoryError:
            return False

    def _search(self) -> None:
        """By the VMCOREINFO that Linux has in its memory for such as us. Raises NotLinux."""
        for note in self._notes():
            found = re.search(rb"\nKERNELOFFSET=([0-9a-f]{1,16})\n", note)
            base = re.search(rb"\nNUMBER\(phys_base\)=(-?[0-9]{1,20})\n", note)
            if found and base:
                self.offset, self.phys_base, self.note = int(found[1], 16), int(base[1]), note
                try:
                    if self.memory.read(self._image_gpa(self.symbol("linux_banner")), len(BANNER)) == BANNER:
                        return
                except GuestMemoryError:  # a page that another kernel has left
                    pass
        raise NotLinux("no Linux with these symbols is in the guest's memory; it may not be up yet, or is another one")

    def _notes(self) -> Iterator[bytes]:
        for start, length in self.memory.regions:
            for at in range(start, start + length, _WINDOW):
                data = self.memory.read(at, min(_WINDOW, start + length - at))
                for found in _NOTE.finditer(data):
                    yield found[0][:MOST_NOTE]

    def _flag(self, name: str) -> int:
        return self.u32(self.symbol(name)) & 1 if self.has(name) else 0

    def _base(self, name: str, default: int) -> int:
        if not self.has(name):
            return default
        value = self.u64(self.symbol(name))
        return value if value >= KERNEL_HALF and value % PAGE == 0 else default

    def _image_gpa(self, address: int) -> int:
        return address - KERNEL_MAP + self.phys_base

    # By symbol.

    def has(self, name: str) -> bool:
        return self.symbols.known(name) is not None

    def symbol(self, name: str) -> int:
        """Its address in the guest. Raises NotLinux where this kernel has none with that name."""
        address = self.symbols.known(name)
        if address is None:
            raise NotLinux(f"this kernel has no symbol {name!r}; it is too old, too new, or built without")
        return address + self.offset

    # By address.

    def locate(self, address: int) -> int:
        """The guest physical address. Raises GuestMemoryError."""
        if KERNEL_MAP <= address < self._image_end:
            return self._image_gpa(address)
        if 0 <= address - self.page_offset < self._top:
            return address - self.page_offset
        gpa = page_walk.translate(self.memory, self._tables, address)
        if gpa is None:
            raise GuestMemoryError(f"the kernel's address {address:#x} is not mapped to the guest's RAM")
        return gpa

    def read(self, address: int, length: int) -> bytes:
        """Raises GuestMemoryError where it is not mapped."""
        room = PAGE - address % PAGE
        if length <= room:
            return self.memory.read(self.locate(address), length)
        parts = [self.memory.read(self.locate(address), room)]
        for at in range(address + room, address + length, PAGE):
            parts.append(self.memory.read(self.locate(at), min(PAGE, address + length - at)))
        return b"".join(parts)

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def text(self, address: int, most: int = LONGEST) -> str:
        """Up to a NUL or `most` bytes, printable."""
        data = b""
        while len(data) < most and b"\0" not in data:
            at = address + len(data)
            data += self.read(at, min(PAGE - at % PAGE, most - len(data)))
        return printable(data.partition(b"\0")[0].decode("utf-8", "replace"))

    def listed(self, head: int, member: int) -> Iterator[int]:
        """The entries of a `struct list_head` at `head`, in which their own is at `member` bytes. Raises DamagedKernel
        for a list that does not come back to its head."""
        at = head
        for _ in range(MOST_LISTED):
            at = self.u64(at)
            if at == head:
                return
            yield at - member
        raise DamagedKernel(f"a list of the guest's kernel has more than {MOST_LISTED} entries, or is damaged")


def find(subject: Subject) -> GuestKernel:
    """The kernel of a guest, by the symbols of the file that it was booted from. Raises NotLinux, BootError."""
    symbols = table.of_guest(subject.kernel)
    if symbols is None:
        raise NotLinux(f"{subject.kernel!r} has no symbols, and no System.map beside it; put that there")
    return GuestKernel(subject.memory, symbols)
