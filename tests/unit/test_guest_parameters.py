"""Kernel parameters that Corral gives by itself, and what it chooses to boot."""

from __future__ import annotations

import os
import shlex
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.guests import kernel, parameters
from corral.guests.default import MEMORY, choose
from corral.kvm.system import Kind

# What a process can have as an argument: anything but NUL, bytes that are no UTF-8 too.
ARGUMENT = st.binary().map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


def line(words: list[str]) -> bytes:
    """The shell's line, as init decodes it."""
    name, _, value = parameters.for_command(words).partition("=")
    assert name == "corral.run"
    assert value.isascii()
    assert not set(value) & set(" \t\n\"'")
    return unquote_to_bytes(value)


@given(ARGUMENT)
def test_one_word_is_a_line_for_the_shell(word: str) -> None:
    assert line([word]) == os.fsencode(word)


@given(st.lists(ARGUMENT, min_size=2))
def test_more_words_are_a_program_and_its_arguments(words: list[str]) -> None:
    assert shlex.split(os.fsdecode(line(words))) == words


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("stock", [True, False])
def test_defaults_have_no_parameter_twice(kind: Kind, stock: bool) -> None:
    words = parameters.for_kind(kind, stock).split()
    assert len({word.partition("=")[0] for word in words}) == len(words)
    assert "corral.status=0xca1" in words


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("cpus", [1, 2])
def test_the_choice_can_be_made(kind: Kind, cpus: int) -> None:
    choice = choose(kind, cpus)
    assert choice.name in {**kernel.VARIANTS, **kernel.STOCK_METAPACKAGES}
    assert choice.stock == (kind is Kind.HARDWARE)
    assert MEMORY[kind] >= 32 << 20
