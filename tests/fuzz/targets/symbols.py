"""A kernel's symbols, by each of the three ways to find them: they are none, too many, or names that can be printed."""

from __future__ import annotations

from corral.errors import CorralError
from corral.files.file import Flaw
from corral.symbols import kallsyms, table
from tests.fuzz.targets import MemoryFile, one_line
from tests.support import hostile_kernels, kallsyms_tables

LONGEST = 16384
CONCERNED = ("corral.symbols.elf_symbols", "corral.symbols.kallsyms", "corral.symbols.names", "corral.symbols.table")

_file = MemoryFile()
kallsyms._MOST_STEPS = 50_000  # what a search costs has a test; here many are wanted


def one(data: bytes) -> None:
    """The first byte is the way."""
    if len(data) < 2:
        return
    way, content = data[0] % 3, data[1:]
    try:
        if way == 0:
            rows = table.rows_of_kernel(_file.put(content))
        elif way == 1:
            rows = table.read_rows(_file.put(content))
        else:
            rows = kallsyms.Search().find(content)
        check(rows)
    except CorralError as error:
        one_line(error)
    except Flaw:
        pass


def check(rows: list[tuple[int, str, str]]) -> None:
    assert rows == sorted(rows, key=lambda row: row[0])
    for address, kind, name in rows:
        assert 0 <= address < 1 << 64, hex(address)
        assert kind.isprintable()
        assert name.isprintable()
    if any(kind in "tT" for _, kind, _ in rows):
        symbols = table.Symbols(rows, "input")
        for address, _, _ in rows[:20]:
            assert symbols.text(address).isprintable()
            symbols.near(address)
            symbols.end(address)


_TEXT = 0xFFFFFFFF81000000
_NAMES = [f"f{number}" for number in range(300)]
SEEDS = [
    b"\0" + hostile_kernels.with_symbols(b"\0name\0other\0", [1, 6]),
    b"\0" + hostile_kernels.with_lookalike(0.002),
    b"\1" + b"ffffffff81000000 T _text\nffffffff81000010 t name\nffffffff81000020 D data\n",
    *(
        b"\2" + kallsyms_tables.tables(_NAMES, list(range(_TEXT, _TEXT + len(_NAMES))), _TEXT, several, new)
        for several in (False, True)
        for new in (False, True)
    ),
]
