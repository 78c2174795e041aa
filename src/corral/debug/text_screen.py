"""What a guest has written to the text screen of a PC. There is none: its memory is RAM that is not shown."""

from __future__ import annotations

from corral.arch.x86_64 import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory

COLUMNS, ROWS = 80, 25


def text(memory: GuestMemory) -> str:
    """Lines of the screen in mode 3, without the empty ones at the end; control characters are spaces."""
    cells = memory.read(layout.TEXT_SCREEN, COLUMNS * ROWS * 2)
    characters = cells[::2].decode("cp437").translate(_BLANKS)
    lines = [characters[row : row + COLUMNS].rstrip() for row in range(0, COLUMNS * ROWS, COLUMNS)]
    return "\n".join(lines).rstrip() or "(nothing on the text screen)"


_BLANKS = dict.fromkeys((*range(0x20), 0x7F), " ")
