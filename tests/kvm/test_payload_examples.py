"""The sessions in docs/research/payloads.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from corral.guests import kernel

PAGE = Path(__file__).parents[2] / "docs" / "research" / "payloads.md"
MARK = "----- the next command -----"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


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
    """A pattern; "..." is any number of lines, none too. Empty lines at the end do not count."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return "".join("(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in lines) or "\n"


def test_the_sessions(tmp_path: Path) -> None:
    kernel.get("small")  # made before, so that no progress is shown
    names = re.findall(r"`(\w+\.S)`:\n\n```asm", PAGE.read_text())
    assert names == ["kernel.S", "sector.S", "pc.S"]
    for name, source in zip(names, blocks("asm"), strict=True):
        (tmp_path / name).write_text(source)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "corral").write_text(f'#!/bin/sh\nexec {sys.executable} -m corral "$@" </dev/null\n')
    (tmp_path / "bin" / "corral").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}:/sbin:/usr/sbin"}
    for block in blocks("console"):
        commands = session(block)
        # Each command finds the exit status of the one before.
        script = "".join(f"{command}\ns=$?; echo; echo '{MARK}'; (exit $s)\n" for command, _ in commands)
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        outputs = done.stdout.split(MARK + "\n")
        for (command, lines), output in zip(commands, outputs, strict=False):
            assert re.fullmatch(as_shown(lines), output.rstrip("\n") + "\n"), (command, output)
