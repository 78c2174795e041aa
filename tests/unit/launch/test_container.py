"""What the init of a container's guest is told, and how the words of corral run become that."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli import run_words
from corral.cli.options import Arguments, parse
from corral.cli.run import COMMAND, _words
from corral.cli.run_words import PlainConfig
from corral.errors import BootError, ConfigError
from corral.launch.container import Container, Volume

IMAGE = PlainConfig(entrypoint=("/entry",), cmd=("serve",), env=("A=image", "B=image"), working_dir="/srv", user="web")


def parsed(*words: str) -> Arguments:
    arguments = parse(COMMAND, list(words))
    assert arguments is not None
    return arguments


def container(*words: str, image: PlainConfig = IMAGE) -> Container:
    return run_words.container(parsed(*words), image)


def test_the_image_says_what_runs() -> None:
    found = container("image")
    assert (found.words, found.user, found.folder) == (("/entry", "serve"), "web", "/srv")
    assert found.environment == ("A=image", "B=image")


def test_words_after_the_image_are_the_command_and_its_options() -> None:
    for words in (("image", "ls", "-l", "--", "x"), ("image", "--", "ls", "-l", "--", "x")):
        assert container(*words).words == ("/entry", "ls", "-l", "--", "x")


def test_an_entrypoint_of_ones_own_has_not_the_images_command() -> None:
    assert container("--entrypoint", "/bin/sh", "image").words == ("/bin/sh",)
    assert container("--entrypoint", "", "image", "ls").words == ("ls",)


def test_an_image_without_a_command_wants_one() -> None:
    with pytest.raises(ConfigError, match="names no command"):
        container("image", image=PlainConfig(cmd=()))


def test_the_last_of_a_variable_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "here")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# words\n\nB=file\nC=a b=c\n")
    found = container("--env-file", str(file), "-e", "A=", "-e", "OURS", "-e", "NOT_HERE", "image")
    assert found.environment == ("A=", "B=file", "C=a b=c", "OURS=here")


def test_volumes_and_memory_in_the_order_in_which_they_are_mounted(tmp_path: Path) -> None:
    found = container("-v", f"{tmp_path}:/a/../b:ro", "-v", f"{tmp_path}:/c", "--tmpfs", "/t:size=1m", "image")
    assert [(v.path, v.writable) for v in found.volumes] == [("/b", False), ("/c", True), ("/t", True)]
    assert [(share.tag, share.writable) for share in found.shares] == [("volume0", False), ("volume1", True)]
    assert "vvolume0:ro:/b\0vvolume1:rw:/c\0tsize=1m:/t\0" in found.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-v", "named:/x"), "no volumes with names"),
        (("-v", "/nowhere/at/all:/x"), "is not there"),
        (("-v", "/etc/passwd:/x"), "is no folder"),
        (("-v", "/tmp"), "is not like"),
        (("-v", "/tmp:x"), "no path from /"),
        (("--tmpfs", "x"), "no path from /"),
        (("-w", "x"), "no path from /"),
        (("-e", "=x"), "is not NAME=VALUE"),
        (("--env-file", "/nowhere"), "--env-file"),
        (("--hostname", "a b"), "--hostname"),
        (("--disk-size", "1M"), "--disk-size"),
        (("--stop-signal", "NONE"), "is no signal"),
        (("--keep", "../x"), "no name"),
        (("-e", "A=\0"), "NUL"),
        (("-e", "A=" + "x" * 60_000), "bytes"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        _ = container(*words, "image").text
    assert "\n" not in str(raised.value)


def test_what_an_image_says_in_its_own_ways() -> None:
    found = container("image", image=PlainConfig(working_dir="srv/x", stop_signal="SIGRTMIN+3"))
    assert (found.folder, found.stop_signal) == ("/srv/x", 37)


def test_more_volumes_than_a_guest_has() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        Container(("x",), volumes=(Volume("/x"),) * 65)


def test_the_session_is_letters_values_and_zeros() -> None:
    text = Container(("a", ""), ("N=V",), "u:g", "/w", "name", read_only=True, stop_signal=3, keep="k").text
    assert text == "aa\0a\0eN=V\0uu:g\0w/w\0hname\0s3\0r\0k\0"


def test_the_words_for_a_process_in_the_background_are_the_same_but_for_that() -> None:
    first = parsed("-d", "-e", "A=1", "--env=B=2", "--net", "--read-only", "image", "sh", "-c", "x --detach")
    again = parsed(*_words(first))
    assert again.every == {name: values for name, values in first.every.items() if name != "detach"}
    assert (again.operands, again.rest) == (first.operands, first.rest)


def test_an_erofs_file_is_an_image_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.erofs"
    file.write_bytes(b"")
    found = run_words.image(str(file), "missing", print)
    assert (found.root, found.config.cmd) == (str(file), ("/bin/sh",))
    with pytest.raises(BootError, match="there is no file"):
        run_words.image(str(tmp_path / "b.erofs"), "missing", print)
    with pytest.raises(ConfigError, match="--pull"):
        run_words.image(str(file), "sometimes", print)
