"""Edits of the kernel's source: each finds its anchor, or the build ends and names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import kernel, kernel_edits, sources

EDITS = """
[[copy]]
file = "native/own.c"
to = "kernel"

[[edit]]
why = "The reason."
file = "kernel/head.c"
find = '''one\\n'''
replace = '''\\g<0>two\\n'''

[[edit]]
why = "Of later versions."
from = "6.6"
file = "kernel/head.c"
find = '''new'''
replace = '''newer'''

[[edit]]
why = "Twice."
before = "6.6"
file = "kernel/head.c"
count = 2
find = '''old'''
replace = '''older'''
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ours = tmp_path / "linux"
    (ours / "native").mkdir(parents=True)
    (ours / "edits.toml").write_text(EDITS)
    (ours / "small.config").write_text("CONFIG_TTY=y\n")
    (ours / "native" / "own.c").write_text("ours\n")
    monkeypatch.setattr(sources, "folder", lambda name: str(ours))
    source = tmp_path / "source"
    (source / "kernel").mkdir(parents=True)
    (source / "kernel" / "head.c").write_text("one\nold old\n")
    return source


def test_files_are_copied_and_edits_made(tree: Path) -> None:
    kernel_edits.apply(str(tree), "6.1.192-3")
    assert (tree / "kernel" / "own.c").read_text() == "ours\n"
    assert (tree / "kernel" / "head.c").read_text() == "one\ntwo\nolder older\n"


def test_an_edit_is_for_the_versions_that_have_its_anchor(tree: Path) -> None:
    (tree / "kernel" / "head.c").write_text("one\nnew\n")
    kernel_edits.apply(str(tree), "6.12.118-1")
    assert (tree / "kernel" / "head.c").read_text() == "one\ntwo\nnewer\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("old old\n", "has 'one\\\\n' 0 times, not 1 (The reason.)"),
        ("one\none\nold old\n", "2 times, not 1 (The reason.)"),
        ("one\nold\n", "has 'old' 1 times, not 2 (Twice.)"),
    ],
)
def test_an_anchor_that_is_not_there_as_often_as_it_must_be_is_named(tree: Path, text: str, told: str) -> None:
    (tree / "kernel" / "head.c").write_text(text)
    with pytest.raises(HostError) as caught:
        kernel_edits.apply(str(tree), "6.1")
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_named(tree: Path) -> None:
    (tree / "kernel" / "head.c").unlink()
    with pytest.raises(HostError, match=r"has no kernel/head\.c"):
        kernel_edits.apply(str(tree), "6.1")


@pytest.mark.parametrize("name", ["edits.toml", "native/own.c"])
def test_a_kernel_is_made_anew_when_what_it_gets_changes(tree: Path, name: str) -> None:
    before = kernel.key("6.1.192-3")
    path = Path(sources.folder("linux")) / name
    path.write_text(path.read_text() + "# more\n")
    assert kernel.key("6.1.192-3") != before
