"""The sessions in docs/, run as they stand: what a reader types brings what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral.guests import kernel

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "research" / "payloads.md", *sorted((DOCS / "tutorials").glob("*.md"))]
MARK = "----- the next command -----"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def session(block: str) -> list[tuple[str, list[str]]]:
    """Each command, and the lines that shall follow it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def as_shown(lines: list[str]) -> str:
    """A pattern. A line "..." is any number of lines, none too; "..." in a line is any words. Empty lines at the end do
    not count."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    rows = ["(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n" for line in lines]
    return "".join(rows) or "\n"


def write_sources(page: Path, folder: Path) -> None:
    """The programs of a page: blocks whose file is named on the line before."""
    for name, source in re.findall(r"`([\w.]+)`:\n\n```(?:asm|c|python)\n(.*?)^```$", page.read_text(), re.M | re.S):
        (folder / name).write_text(source)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_sessions(page: Path, tmp_path: Path) -> None:
    kernel.get("small")  # made before, so that no progress is shown
    work, programs, running = tmp_path / "work", tmp_path / "bin", tmp_path / "run"
    for folder in (work, programs, running):
        folder.mkdir(0o700)
    write_sources(page, work)
    (programs / "corral").write_text(f'#!/bin/sh\nexec {sys.executable} -m corral "$@"\n')
    (programs / "corral").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}:/sbin:/usr/sbin"
    environment = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(running)}
    subprocess.run(["corral", "boot", "--", "true"], env=environment, check=True, capture_output=True)  # and initramfs
    try:
        for block in blocks(page, "console"):
            check(session(block), work, environment)
    finally:
        for guest in (running / "corral").glob("*"):
            subprocess.run(["corral", "kill", guest.name], env=environment, check=False, capture_output=True)


def check(commands: list[tuple[str, list[str]]], folder: Path, environment: dict[str, str]) -> None:
    """In one shell. Each command finds the exit status of the one before."""
    script = "".join(f"{command}\ns=$?; echo; echo '{MARK}'; (exit $s)\n" for command, _ in commands)
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}kill $(jobs -p) 2>/dev/null"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    outputs = done.stdout.split(MARK + "\n")
    for (command, lines), output in zip(commands, outputs, strict=False):
        assert re.fullmatch(as_shown(lines), output.rstrip("\n") + "\n"), (command, output)
