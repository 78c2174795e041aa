"""Kernel parameters that Corral gives by itself, and what it chooses to boot."""

from __future__ import annotations

import os
import shlex
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.guests import kernel, parameters
from corral.guests.default import choose
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
@pytest.mark.parametrize("acpi", [True, False])
def test_defaults_have_no_parameter_twice(kind: Kind, stock: bool, acpi: bool) -> None:
    words = parameters.for_kind(kind, stock, acpi).split()
    assert len({word.partition("=")[0] for word in words}) == len(words)
    assert "corral.status=0xca1" in words


@pytest.mark.parametrize("kind", list(Kind))
def test_the_small_kernel_is_told_nothing_that_it_knows(kind: Kind) -> None:
    """Each word takes it milliseconds on a pagetable KVM."""
    assert "console=" not in parameters.for_kind(kind, stock=False)
    assert "console=ttyS0" in parameters.for_kind(kind, stock=True).split()
    assert parameters.for_root(0, stock=False) == "root=/dev/vda rw"
    assert parameters.for_root(1, 2) == "root=/dev/vdb2 rw rootwait"


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("acpi", [True, False])
def test_the_choice_can_be_made(kind: Kind, cpus: int, acpi: bool) -> None:
    choice = choose(kind, cpus, acpi=acpi)
    assert choice.name in kernel.NAMES
    assert choice.stock == (kind is Kind.HARDWARE)


def test_a_kernel_that_reads_no_mp_table_is_not_chosen_for_many_cpus_without_acpi() -> None:
    assert choose(Kind.HARDWARE, 4).name == "stock"
    assert choose(Kind.HARDWARE, 4, acpi=False).name == "stock-generic"


@pytest.mark.parametrize(("kind", "stock"), [(Kind.HARDWARE, False), (Kind.PAGETABLE, True), (Kind.PAGETABLE, False)])
def test_who_gets_no_acpi(kind: Kind, stock: bool) -> None:
    assert not parameters.has_acpi(kind, stock)
    assert parameters.has_acpi(Kind.HARDWARE, stock=True)


def test_which_initramfs_is_kept_in_memory() -> None:
    kept = {(kind, stock) for kind in Kind for stock in (True, False) if parameters.for_initrd(kind, stock)}
    assert kept == {(Kind.PAGETABLE, False)}
