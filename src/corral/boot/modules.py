"""Files that a kernel finds in memory when it starts: initial file systems, programs, the kernels of guests."""

from __future__ import annotations

import os

from corral.arch.x86_64 import layout
from corral.boot.ram import free_windows, size_text
from corral.files.file import Flaw, ImageFile
from corral.memory import RAM_HOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import Module
    from corral.memory import GuestMemory


def load(
    memory: GuestMemory, modules: tuple[Module, ...], taken: list[tuple[int, int]], words: int, words_end: int
) -> list[tuple[int, int, int]]:
    """(address, size, address of its words) of each module. All addresses are guest physical.

    Each goes to the lowest pages above 1 MiB beside the `taken` ranges (start, end): kernels that map no more than
    their first megabytes find them there. Their words are strings from `words` to `words_end`, each with a zero.
    Raises Flaw for the words, BootError naming the file for the rest.
    """
    placed: list[tuple[int, int, int]] = []
    for module in modules:
        text = os.fsencode(module.words) + b"\0"
        if words + len(text) > words_end:
            raise Flaw("would get a command line and words for its modules that are longer than 64 KiB; shorten them")
        memory.write(words, text)
        with ImageFile(module.path, "module") as file:
            beside = [*taken, *((start, start + size) for start, size, _ in placed)]
            try:
                address = find_place(memory, file.size, beside)
            except Flaw as flaw:
                raise file.error(str(flaw)) from None
            file.read_into(0, memory.view(address, file.size))
        placed.append((address, file.size, words))
        words += len(text)
    return placed


def find_place(memory: GuestMemory, size: int, taken: list[tuple[int, int]]) -> int:
    """The lowest page above 1 MiB with `size` bytes of RAM beside the `taken` ranges. Raises Flaw."""
    largest = 0
    for low, high in reversed(list(free_windows(memory, taken, layout.HIGH_MEMORY, RAM_HOLE))):
        address = -(-low // layout.PAGE_SIZE) * layout.PAGE_SIZE
        if address + size <= high:
            return address
        largest = max(largest, high - address)
    raise Flaw(
        f"is {size_text(size)}, the guest has room for {max(largest, 0) >> 20}M of its {size_text(memory.size)}; "
        "give it more with --memory"
    )
