"""Parsing of command lines, and the help that comes from the same table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli import boot, doctor, kernel
from corral.cli.options import Arguments, Command, Option, parse
from corral.errors import ConfigError

TABLE = Command(
    name="example",
    summary="For tests.",
    operands=("WHAT",),
    rest="MORE...",
    options=(Option("size", "N", "how much"), Option("fast", "", "hurry")),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Arguments({}, [], None)),
        (["it", "--size", "3"], Arguments({"size": ["3"]}, ["it"], None)),
        (["--size=3", "it"], Arguments({"size": ["3"]}, ["it"], None)),
        (["--size=a=b"], Arguments({"size": ["a=b"]}, [], None)),
        (["--size="], Arguments({"size": [""]}, [], None)),
        (["--size", "1", "--size", "2"], Arguments({"size": ["1", "2"]}, [], None)),
        (["--size", "--fast"], Arguments({"size": ["--fast"]}, [], None)),
        (["--fast"], Arguments({"fast": [""]}, [], None)),
        (["-"], Arguments({}, ["-"], None)),
        (["--"], Arguments({}, [], [])),
        (["it", "--", "--size", "it"], Arguments({}, ["it"], ["--size", "it"])),
    ],
)
def test_what_is_understood(words: list[str], expected: Arguments) -> None:
    assert parse(TABLE, words) == expected


def test_of_an_option_given_twice_the_last_value_counts() -> None:
    assert Arguments({"size": ["1", "2"]}, [], None).values == {"size": "2"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b"], "does not know what to do with 'b'"),
        (["--sizes", "1"], "has no option --sizes"),
        (["-s"], "has no option -s"),
        (["--size"], "--size needs a value, N"),
        (["--fast=1"], "--fast takes no value"),
    ],
)
def test_what_is_not(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(TABLE, words)
    assert "see corral example --help" in str(raised.value)


def test_a_command_that_takes_no_rest() -> None:
    with pytest.raises(ConfigError, match="takes nothing after --"):
        parse(doctor.COMMAND, ["--"])


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_asked_for_anywhere_but_in_the_rest(word: str) -> None:
    assert parse(TABLE, ["it", word]) is None
    assert parse(TABLE, ["--", word]) is not None


@given(st.lists(st.sampled_from(["--size", "--fast", "--", "-x", "--size=1", "it", "", "--=", "-", "---"]) | st.text()))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    try:
        parsed = parse(TABLE, words)
    except ConfigError:
        return
    assert parsed is None or set(parsed.values) <= {"size", "fast"}


@pytest.mark.parametrize("command", [boot.COMMAND, doctor.COMMAND, kernel.COMMAND])
def test_help_fits_a_terminal_and_names_every_option(command: Command) -> None:
    text = command.help(everything=True)
    assert text.startswith(f"usage: corral {command.name}")
    assert max(map(len, text.splitlines())) <= 110
    for option in command.options:
        assert f"--{option.name}" in text
