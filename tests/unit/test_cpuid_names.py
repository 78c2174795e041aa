"""What two hosts' CPUs differ in, for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.arch.x86_64 import cpuid_names

Entry = tuple[int, int, int, int, int, int, int]
PLAIN: list[Entry] = [(0, 0, 0, 13, 1, 2, 3), (1, 0, 0, 9, 0, 1 << 28, 1 << 25), (7, 0, 0, 0, 1 << 5, 0, 0)]


def with_bits(leaf: int, register: int, bits: int) -> list[Entry]:
    changed = []
    for entry in PLAIN:
        values = list(entry)
        if entry[0] == leaf:
            values[register] ^= bits
        changed.append(tuple(values))
    return changed  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (with_bits(7, 4, 1 << 5), "lacks avx2"),
        (with_bits(7, 4, 1 << 16), "also has avx512f"),
        (with_bits(7, 4, 1 << 5 | 1 << 16), "lacks avx2 and also has avx512f"),
        (with_bits(1, 3, 1), "differs in CPUID leaf 0x1"),
        (PLAIN[:1], "lacks avx, avx2, sse"),
        ([], "lacks avx, avx2, sse"),
    ],
)
def test_what_differs(there: list[Entry], text: str) -> None:
    assert cpuid_names.difference(PLAIN, there) == text


def test_many_are_cut() -> None:
    text = cpuid_names.difference(with_bits(7, 4, (1 << 32) - 1), PLAIN)
    assert text.count(",") == cpuid_names.MOST - 1
    assert " more and also has avx2" in text


def test_names_are_those_of_linux() -> None:
    """Of each register no more names than bits; what this CPU's kernel tells is among them."""
    for (_, _, register), names in cpuid_names._NAMES.items():
        assert register in (cpuid_names.EAX, cpuid_names.EBX, cpuid_names.ECX, cpuid_names.EDX)
        assert len(names.split()) <= 32
    known = {name for names in cpuid_names._NAMES.values() for name in names.split()}
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    assert {"avx", "sse4_2", "fxsr", "xsave"} & {*flags.split()} <= known
