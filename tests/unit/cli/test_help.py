"""Help by command and by topic, and what a word that is not known may have meant."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

import corral
from corral.cli import COMMANDS, boot, colour, main, topics
from corral.cli.help import of_command
from corral.errors import ConfigError
from corral.guests import apt_suite, debian, distribution

WIDEST = 110


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("word", ["-V", "--version", "version"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, word) == f"corral {corral.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "help", command) == output(capsys, command, "--help")
    assert f"usage: corral {command}" in output(capsys, command, "--help-all")


def test_help_of_an_action(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "help", "image", "create")
    assert text.startswith("usage: corral image create FILE SIZE")
    assert text == output(capsys, "image", "create", "--help")


def test_help_lists_commands_and_topics(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "help")
    assert all(f"\n  {name} " in text for name in (*COMMANDS, *topics.TOPICS))


def test_help_of_boot_fits_a_screen_and_has_the_options_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "boot", "--help")
    assert len(topics.COMMON) == 10
    assert all(f"\n  --{name} " in text for name in topics.COMMON)
    assert text.count("\n  --") == 12
    assert "--hugepages" not in text
    assert len(text.splitlines()) <= 50


def test_all_help_of_boot_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "boot", "--help-all")
    assert all(f"\n  --{option.name}" in text for option in boot.COMMAND.options)
    assert "--disk takes after the path" in text


def test_every_option_of_boot_is_in_a_topic(capsys: pytest.CaptureFixture[str]) -> None:
    names = [*topics.TOPICS]
    if topics.options_of(topics.OTHER, boot.COMMAND):
        names.append(topics.OTHER)
    texts = "".join(output(capsys, "help", name) for name in names)
    assert all(f"\n  --{option.name}" in texts for option in boot.COMMAND.options)
    assert max(map(len, texts.splitlines())) <= WIDEST + 10


def test_topics_name_options_that_there_are() -> None:
    known = {option.name for option in boot.COMMAND.options}
    assert set(topics.COMMON) <= known
    assert {name for topic in topics.TOPICS.values() for name in topic.options} <= known


def test_a_topic_has_what_is_said_of_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\n--disk takes after the path" in output(capsys, "help", "disks")
    assert "--disk takes after" not in output(capsys, "help", "numa")


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["bot"], "did you mean corral boot?"),
        (["Boot"], "did you mean corral boot?"),
        (["verison"], "did you mean corral version?"),
        (["help", "bot"], "did you mean corral help boot?"),
        (["help", "diks"], "did you mean corral help disks?"),
        (["boot", "--memry", "2G"], "did you mean --memory?"),
        (["boot", "--memry=2G"], "did you mean --memory?"),
        (["trace", "--sumary", "--", "boot"], "did you mean --summary?"),
        (["kernel", "biuld"], "did you mean build?"),
        (["kernel", "build", "smal"], "did you mean small?"),
        (["image", "form-dir"], "did you mean from-dir?"),
        (["images", "prnue"], "did you mean prune?"),
        (["boot", "debain"], "did you mean debian?"),
        (["boot", "ubunut:noble"], "did you mean ubuntu:noble?"),
        (["boot", "hots"], "did you mean host?"),
        (["boot", "debian:trixy"], "no release 'trixy'; did you mean debian:trixie?"),
        (["boot", "ubuntu:nobel"], "did you mean ubuntu:noble?"),
    ],
)
def test_what_a_word_may_have_meant(
    words: list[str], guess: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guess in complaint(capsys, *words)


@pytest.mark.parametrize("words", [["frobnicate"], ["boot", "--frobnicate"], ["help", "frobnicate"]])
def test_what_is_like_nothing_gets_no_guess(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" not in complaint(capsys, *words)


def test_a_file_of_that_name_is_meant_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debain").write_text("not a kernel")
    assert "did you mean" not in complaint(capsys, "boot", "debain")


def test_a_release_that_the_archive_has_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """apt's complaint is about the release, so it is the word that is wrong and not the host's sources."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def output(command: list[str], what: str) -> str:
        if "indextargets" in command:
            return "http://deb.debian.org/debian bookworm Debian\n"
        said = "E: The repository 'http://deb.debian.org/debian zurg Release' does not have a Release file.\n"
        raise debian.AptError(f"cannot get {what}", said)

    monkeypatch.setattr(debian, "output", output)
    with pytest.raises(ConfigError, match=r"debian.org/debian has no release 'zurg'.*debian:trixie"):
        apt_suite.find("debian", "zurg")


@pytest.mark.parametrize("word", ["debian:trixie", "debian:sid", "ubuntu:noble", "debian:stable"])
def test_releases_are_taken_as_they_are(word: str) -> None:
    assert distribution.release_of(word) == tuple(word.split(":"))


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour.painted("text", colour.RED, theirs) == "\x1b[1;31mtext\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert colour.painted("text", colour.RED, theirs) == "text"
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert colour.painted("text", colour.RED, theirs) == "text"
    for descriptor in (ours, theirs):
        os.close(descriptor)


@pytest.mark.parametrize("words", [[command, "--help"] for command in COMMANDS] + [["bot"], ["doctor"]])
def test_nothing_is_coloured_where_no_terminal_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


def test_every_command_has_a_table() -> None:
    assert all(of_command(name).name == name for name in COMMANDS)
