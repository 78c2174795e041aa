"""The sections of an ELF kernel in its own memory: how one that is entered by Multiboot finds its symbols.

Source: the Multiboot Specification, `syms`. They are a help to a kernel and never a condition, so what is wrong with
them is no error: then they are not told of.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.boot.modules import find_place
from corral.files import elf_sections
from corral.files.elf_sections import ALLOCATED, STRINGS, SYMBOLS
from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

MOST = 256  # sections: of a kernel with one a function there are more, and it does without
MAX_LOADED = 64 << 20  # bytes of symbols and their names


@record(frozen=True)
class Sections:
    """The table as a kernel is given it, with addresses in its memory; `names` is the number of the section that has
    the names of all."""

    count: int
    entry_size: int
    names: int
    table: bytes


def load(file: ImageFile, memory: GuestMemory, taken: list[tuple[int, int]]) -> Sections | None:
    """Puts symbols and strings that no segment has into the lowest pages beside `taken`, to which they are added."""
    table = elf_sections.read(file, MOST)
    if table is None or table.names >= len(table.sections):
        return None
    places = {
        number: section
        for number, section in enumerate(table.sections)
        if section.kind in (SYMBOLS, STRINGS) and not section.flags & ALLOCATED and not section.address and section.size
    }
    if any(section.offset + section.size > file.size for section in places.values()):
        return None
    if sum(section.size for section in places.values()) > MAX_LOADED:
        return None
    addresses = {}
    for number, section in places.items():
        try:
            address = find_place(memory, section.size, taken)
        except Flaw:  # a kernel without symbols runs where one with them does not
            return None
        file.read_into(section.offset, memory.view(address, section.size))
        taken.append((address, -(-(address + section.size) // layout.PAGE_SIZE) * layout.PAGE_SIZE))
        addresses[number] = address
    return Sections(len(table.sections), table.entry_size, table.names, table.placed(addresses))
