"""What a shared folder does of what programs expect of a file system: as docs/shared-folders.md has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral.guests import cache, initramfs, kernel
from tests.support.this_host import ThisHost

ROOT = Path(__file__).parent.parent.parent
MOUNT = "mount -t 9p -o trans=virtio"


@pytest.fixture(scope="module")
def program() -> str:
    """In the cache, where an emulated host finds it, too."""
    path = Path(cache.folder("nested", "programs", "share_semantics"))
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "tests" / "support" / "share_semantics.c"
    command = ["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", str(source), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    initramfs.path()


def boot(shared: str, program: str) -> list[str]:
    """The command that runs the program in a guest, in this folder of its host."""
    folder, name = os.path.split(program)
    shares = ["--share", f"{shared},tag=data,rw", "--share", f"{folder},tag=tools"]
    line = f"mkdir /m /t && {MOUNT} data /m && {MOUNT} tools /t && /t/{name} /m"
    corral = [sys.executable, "-m", "corral", "boot", kernel.get(kernel.SMALL).path, "--timeout", "280"]
    return [*corral, *shares, "--", line]


def check(said: str) -> None:
    """Against the table of the docs: what, and "ok" or the error."""
    text = (ROOT / "docs" / "shared-folders.md").read_text().partition("\n## What works\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE)[1:]  # without the title
    documented = {name: "ok" if outcome == "works" else outcome.strip("`") for name, outcome in rows}
    found = dict(re.findall(r"^semantics: (.*): (.*?)\r?$", said, re.MULTILINE))
    assert found, said
    assert found == documented


def test_what_works_is_what_the_docs_say(tmp_path: Path, program: str) -> None:
    done = ThisHost(tmp_path).run(boot(str(tmp_path), program), timeout=900)
    check(done.stdout + done.stderr)
