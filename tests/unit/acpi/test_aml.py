"""AML as ACPI 6.4, chapter 20, writes it, by a reader of its own; iasl's word on whole tables is in test_iasl.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.arch.x86_64.acpi import aml

SIZES = {0x0A: 1, 0x0B: 2, 0x0C: 4, 0x0E: 8}


def integer(code: bytes) -> int:
    if code in (b"\0", b"\1"):
        return code[0]
    assert len(code) == 1 + SIZES[code[0]]
    return int.from_bytes(code[1:], "little")


def package_length(code: bytes) -> tuple[int, int]:
    """(the length, how many bytes tell it)."""
    more = code[0] >> 6
    if not more:
        return code[0] & 0x3F, 1
    assert not code[0] & 0x30
    return code[0] & 0xF | int.from_bytes(code[1 : 1 + more], "little") << 4, 1 + more


@given(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32]))
def test_integers_are_as_short_as_can_be(value: int) -> None:
    code = aml.integer(value)
    assert integer(code) == value
    sizes = [1, 2, 3, 5, 9]
    limits = [2, 1 << 8, 1 << 16, 1 << 32, 1 << 64]
    assert len(code) == next(size for size, limit in zip(sizes, limits, strict=True) if value < limit)


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 59, 60, 61, 62, 63, 4080, 4085, 4090, 4096, 1 << 20, (1 << 20) + 9])
def test_lengths_around_those_that_need_a_byte_more(size: int) -> None:
    code = aml.buffer(bytes(size))
    assert code[0] == 0x11
    length, used = package_length(code[1:])
    assert length == len(code) - 1
    assert code[1 + used :] == aml.integer(size) + bytes(size)


def test_eisa_ids() -> None:
    # The examples of ACPI 6.4, section 6.1.5 and the ids of everyday: P is 16, N is 14.
    assert aml.eisa_id("PNP0501") == bytes([0x0C, 0x41, 0xD0, 0x05, 0x01])
    assert aml.eisa_id("PNP0A03") == bytes([0x0C, 0x41, 0xD0, 0x0A, 0x03])


def test_names_are_filled_up() -> None:
    assert aml.name("X", aml.integer(0)) == b"\x08X___\x00"
    assert aml.scope("\\_SB") == b"\x10\x06\\_SB_"


def test_resources_end_with_a_tag() -> None:
    assert aml.resources(aml.io(0x3F8, 0x3FF)).endswith(bytes([0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8, 0x79, 0]))
