"""Every `corral ...` that README.md, docs/ and --help show is one that the command takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from corral.cli import COMMANDS, image, topics
from corral.cli.help import of_command
from corral.cli.options import Command, parse
from corral.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(corral [^`]+)`(?!`)")
STARTS = re.compile(r"^(?:\$ )?(?:.*\| |.*&& |sudo )?(corral .*)$")
OPERATORS = {"|", "||", "&&", ";", ">", "<", ">>", "2>", "&"}
PATTERN = re.compile(r"\[[A-Z-]|\.\.\.|[a-z]\|[a-z]|[A-Z]{3}\b[^ ]*\|")  # of a usage line: what may stand there


def lines_of(text: str) -> list[str]:
    """Command lines in the text of a document or of a help: in blocks, and between backquotes."""
    joined = text.replace("\\\n", " ")
    blocks = [body for language, body in FENCED.findall(joined) if language != "python"]
    rest = FENCED.sub("", joined)
    found = [line for body in blocks for line in body.splitlines()] or []
    lines = [match[1] for line in found if (match := STARTS.match(line.strip()))]
    return lines + [span.replace("\n", " ") for span in INLINE.findall(rest)]


def words_of(line: str) -> list[str] | None:
    """The command's words, without what explains it and what a shell does with it; None for a usage."""
    line = re.sub(r"\"?\$\([^)]*\)\"?", "OUTPUT", _command_alone(line))
    if PATTERN.search(line):
        return None
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in lexer:
        if word in OPERATORS:
            break
        words.append(word)
    return words[1:]


def _command_alone(line: str) -> str:
    """Up to two spaces that are in no quotes: an explanation follows."""
    quote = ""
    for at, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif line.startswith("  ", at):
            return line[:at]
    return line


def check(words: list[str]) -> None:
    """Raises ConfigError, KeyError for what is not taken."""
    if not words or words[0] in ("--help", "-h", "--version", "-V", "version", "COMMAND"):
        return
    if words[0] not in COMMANDS:
        raise ConfigError(f"there is no command {words[0]}")
    command = of_command(words[0], words[1:])
    if words[0] == "help":
        assert not words[1:] or words[1] in {*COMMANDS, *topics.TOPICS, "TOPIC"}, words
        return
    rest = words[2:] if command.name.startswith("image ") else words[1:]
    if "--help" in rest or "--help-all" in rest:
        return
    arguments = parse(command, rest)
    assert arguments is not None
    _check_first_word(command, arguments.operands)
    if command.rest.startswith("boot") and arguments.rest:
        check(arguments.rest)


def _check_first_word(command: Command, operands: list[str]) -> None:
    if command.operands[:1] in (("ACTION",), ("SHELL",)) and operands:
        assert operands[0] in command.words, f"{command.name} has no {operands[0]}"


def documents() -> list[Path]:
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in paths if "corral " in path.read_text())


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document(path: Path) -> None:
    for line in lines_of(path.read_text()):
        words = words_of(line)
        if words is not None:
            check(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help(name: str) -> None:
    commands = [of_command(name), *(image.ACTIONS.values() if name == "image" else ())]
    seen = 0
    for command in commands:
        for line in command.help(everything=True).splitlines():
            if (match := STARTS.match(line.strip())) and (words := words_of(match[1])) is not None:
                check(words)
                seen += 1
        for span in INLINE.findall(command.help(everything=True)):
            check(words_of(span) or [])
    assert seen or name in ("doctor", "topology", "help", "completion")


def test_there_are_as_many_as_a_reader_sees() -> None:
    """Of what is looked at here, that it is looked at."""
    found = [words for path in documents() for line in lines_of(path.read_text()) if (words := words_of(line))]
    assert len(found) > 100
    assert {words[0] for words in found} >= {"boot", "trace", "compare", "image", "images", "kernel", "doctor"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("corral boot -- 'dmesg | tail -n 3'", ["boot", "--", "dmesg | tail -n 3"]),
        ("corral boot --disk a.img           a disk, and what it is", ["boot", "--disk", "a.img"]),
        ("corral trace --out a.csv -- boot && corral trace summary a.csv", ["trace", "--out", "a.csv", "--", "boot"]),
        ("corral boot </dev/null", ["boot"]),
        ("corral boot debian    # the host's own", ["boot", "debian"]),
        ("corral boot [KERNEL] [OPTIONS]", None),
        ("corral completion bash|zsh|fish", None),
    ],
)
def test_how_a_line_is_read(line: str, words: list[str] | None) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize("line", ["bot", "boot --memry 2G", "kernel biuld", "trace -- boot --frobnicate", "help diks"])
def test_a_wrong_one_is_found(line: str) -> None:
    with pytest.raises((ConfigError, AssertionError)):
        check(line.split())
