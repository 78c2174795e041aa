"""Looking into images with the distribution's own tools, which are what a guest's Linux agrees with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


class Image:
    """An ext4 image as debugfs and e2fsck see it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_sound(self) -> bool:
        done = self._run("e2fsck", "-fn", str(self.path))
        assert done.returncode == 0, done.stdout
        return True

    def ask(self, question: str) -> str:
        return self._run("debugfs", "-R", question, str(self.path)).stdout.decode(errors="surrogateescape")

    def names(self, folder: str = "/") -> set[str]:
        return {row[4] for row in self._rows(folder)} - {".", "..", "lost+found"}

    def stat(self, path: str) -> dict[str, str]:
        """Its inode, mode (octal, with the type), uid and gid; and the lines of debugfs's `stat`, by their names."""
        folder, _, name = path.rpartition("/")
        if path == "/":
            folder, name = "/", "."
        (row,) = (row for row in self._rows(folder or "/") if row[4] == name)
        found = dict(zip(("inode", "mode", "uid", "gid"), row, strict=False))
        for line in self.ask(f"stat <{found['inode']}>").splitlines():
            key, _, value = line.strip().partition(": ")
            found.setdefault(key, value)
        return found

    def content(self, path: str) -> bytes:
        return self._run("debugfs", "-R", f'cat "{path}"', str(self.path)).stdout

    def _rows(self, folder: str) -> list[tuple[str, ...]]:
        """Inode, mode, uid, gid and name, which may have any character but a slash."""
        return re.findall(r"/(\d+)/(\d+)/(\d+)/(\d+)/([^/]*)/\d*/", self.ask(f'ls -p "{folder}"'))

    @staticmethod
    def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([tool, *arguments], capture_output=True, timeout=60, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Where an image is to be made: in a folder of its own, so that what is left behind is seen."""
    (tmp_path / "made").mkdir()
    return Image(tmp_path / "made" / "disk.img")
