"""The names of symbols within bounds: a kernel is a file from anywhere, and says as many as it likes."""

from __future__ import annotations

from corral.files.file import Flaw
from corral.printable import printable

MOST = 400_000  # symbols; twice what a distribution's kernel has
LONGEST = 512  # bytes: KSYM_NAME_LEN of the kernel's include/linux/kallsyms.h
MOST_TEXT = 32 << 20  # bytes of all names; a distribution's kernel has 3 MiB


class Names:
    """From bytes to text that can be printed. Raises Flaw for what is too much."""

    def __init__(self, count: int) -> None:
        if count > MOST:
            raise Flaw(f"has {count} symbols, more than {MOST}; name a System.map with fewer")
        self._left = MOST_TEXT

    def text(self, name: bytes) -> str:
        self._left -= len(name)
        if len(name) > LONGEST or self._left < 0:
            raise Flaw(
                f"has a symbol with more than {LONGEST} characters, or more than {MOST_TEXT >> 20} MiB of names; "
                "name a System.map of the kernel"
            )
        return printable(name.decode("latin-1"))
