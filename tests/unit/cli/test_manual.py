"""Manual pages, from the tables of the commands."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from corral.cli import COMMANDS, manual
from corral.cli.help import of_command


def test_each_command_has_a_page_with_all_its_options() -> None:
    pages = manual.pages()
    assert len(pages) == len(COMMANDS) + 1
    for name, about in COMMANDS.items():
        page = pages[f"corral-{name}.1"]
        assert manual.escaped(about) in page
        for option in of_command(name).options:
            assert f".B {manual.escaped(option.title)}\n" in page
        assert f".BR corral\\-{name} (1)" in pages["corral.1"]


@pytest.mark.parametrize("line", [".so /etc/passwd", "'br"])
def test_no_text_is_a_request(line: str) -> None:
    assert not manual.escaped(f"text\n{line}").splitlines()[1].startswith((".", "'"))


def test_groff_takes_them() -> None:
    if not shutil.which("groff"):
        pytest.skip("groff is not installed: apt-get install groff-base")
    for name, page in manual.pages().items():
        done = subprocess.run(["groff", "-man", "-Tascii", "-ww"], input=page, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, ""), name
