"""Symbols of any kernel cost two seconds and 256 MiB at most, and their names do nothing to a terminal."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from corral.printable import printable
from corral.symbols.names import LONGEST, MOST, MOST_TEXT
from corral.symbols.table import of_kernel, read
from tests.support import hostile_kernels
from tests.support.cost import CORRAL, Cost, cost

SECONDS, MEBIBYTES = 2.0 + 2.0, 256.0  # and what a busy machine makes of it


def disassembled(path: Path, *options: str) -> Cost:
    """What it costs to find the symbols and to show a place with them."""
    found = cost(*CORRAL, "disasm", str(path), hex(hostile_kernels.CODE_AT), *options)
    assert found.seconds < SECONDS
    assert found.mebibytes < MEBIBYTES
    assert "Traceback" not in found.output
    return found


def overlapping(count: int, length: int) -> bytes:
    """As many symbols as that, of names that share their letters."""
    names = b"\0" + (b"x" * length + b"\0") * 1000
    places = random.Random(1)
    return hostile_kernels.with_symbols(names, [1 + places.randrange(1000) * (length + 1) for _ in range(count)])


KERNELS = {
    "a string table without an end": (
        lambda: hostile_kernels.with_symbols(b"A" * (1 << 20), list(range(8)) * 2500),
        "more than 512 characters",
    ),
    "a long name": (
        lambda: hostile_kernels.with_symbols(b"\0" + b"A" * (LONGEST + 1) + b"\0", [1]),
        "more than 512 characters",
    ),
    "much text": (lambda: overlapping(MOST_TEXT // 500 + 100, 500), "MiB of names"),
    "many": (lambda: overlapping(MOST + 1, 8), f"more than {MOST}"),
    "what looks like kallsyms": (lambda: hostile_kernels.with_lookalike(0.13), "too often"),
    "much of it": (lambda: hostile_kernels.with_lookalike(15), "too often"),
    "counts": (lambda: hostile_kernels.with_lookalike(15, struct.pack("<QQ", 0x400 << 32, MOST)), "too often"),
    "digits": (lambda: hostile_kernels.with_digits(15), "too often"),
}


@pytest.mark.parametrize("what", KERNELS)
@pytest.mark.long
def test_a_kernel_whose_symbols_are_too_much_is_named(tmp_path: Path, what: str) -> None:
    make, why = KERNELS[what]
    path = tmp_path / "kernel"
    path.write_bytes(make())
    found = disassembled(path)
    assert found.status == 2
    assert why in found.output


def test_as_many_as_may_be(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(overlapping(MOST - 1, 80))
    assert disassembled(path).status == 0


def test_a_list_of_symbols_that_is_too_much_is_named(tmp_path: Path) -> None:
    kernel, table = tmp_path / "kernel", tmp_path / "System.map"
    kernel.write_bytes(hostile_kernels.with_symbols(b"\0name\0", [1]))
    table.touch()
    os.truncate(table, 40 << 30)
    for options in ((), ("--symbols", str(table))):  # also as one that lies beside the kernel
        found = disassembled(kernel, *options)
        assert (found.status, "more than 32 MiB" in found.output) == (2, True)
    for content, why in (
        (b"0 T x\n" * (MOST + 1), f"more than {MOST}"),
        (b"\n" * (16 << 20), f"more than {MOST}"),
        (b"\r" * (16 << 20), "is no list of symbols"),
        (b"0 T " + b"x" * (16 << 20), "more than 512 characters"),
        (b"0 T x " + b"x " * (8 << 20), ""),
        (b"f" * (16 << 20) + b" T x", "is no list of symbols"),
        (b"0 TT x\n", "is no list of symbols"),
        (b"g T x\n", "is no list of symbols"),
    ):
        table.write_bytes(content)
        found = disassembled(kernel, "--symbols", str(table))
        assert why in found.output
        assert found.status == (2 if why else 0)
    table.unlink()
    os.mkfifo(table)
    assert "is no regular file" in disassembled(kernel, "--symbols", str(table)).output


def test_names_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;title\x07evil\x9b2J\r\n"
    shown = r"\x1b]0;title\x07evil\x9b2J\r\n"
    path = tmp_path / "kernel"
    path.write_bytes(hostile_kernels.with_symbols(b"\0" + name.encode("latin-1") + b"\0", [1]))
    symbols = of_kernel(str(path))
    assert symbols is not None
    assert symbols.text(hostile_kernels.CODE_AT) == shown
    table = tmp_path / "list"
    table.write_bytes(b"0000000000200000 T \x1bevil\n")
    assert read(str(table)).text(hostile_kernels.CODE_AT) == r"\x1bevil"


def test_what_is_printable_stays() -> None:
    assert printable("Grüße, 漢字: 'a' \\x") == "Grüße, 漢字: 'a' \\x"
    assert printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"
    assert printable("\udc80\u202e\x00") == r"\udc80\u202e\x00"
