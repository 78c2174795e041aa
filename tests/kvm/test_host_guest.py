"""`corral boot host`: a guest that looks like its host."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import host as host_guest
from tests.nested.host import NestedHost, in_one_root
from tests.support.this_host import ThisHost

Host = ThisHost | NestedHost  # tests/nested/test_host_guest.py has these tests too
CORRAL = [sys.executable, "-m", "corral", "boot", "host", "--timeout", "280"]


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    host_guest.get()


def boot(host: Host, *words: str) -> tuple[int, str]:
    if isinstance(host, ThisHost):
        require_one_root()
        done = host.run([*CORRAL, *words], timeout=900)
    else:
        done = host.run(in_one_root([*CORRAL, *words]), timeout=900)
    return done.status, done.stdout + done.stderr


def require_one_root() -> None:
    """Skips the test on a machine that no guest can look like."""
    try:
        host_guest.mounts(Path("/proc/self/mountinfo").read_text())
    except HostError as error:
        pytest.skip(str(error))


def test_a_command_in_this_folder(host: Host) -> None:
    """It sees what is here, may write, and what it writes is gone with it."""
    line = "pwd; id -un; head -n 2 pyproject.toml; echo new >pyproject.toml && cat pyproject.toml; exit 5"
    status, console = boot(host, "--", line)
    assert status == 5, console
    words = console.replace("\r", "").splitlines()
    at = words.index(os.getcwd())
    assert words[at + 1] == "root"
    assert words[at + 2 : at + 4] == Path("pyproject.toml").read_text().splitlines()[:2]
    assert words[at + 4] == "new"
    line = "head -n 1 pyproject.toml; nproc; python3 -c 'import ssl, sqlite3; print(6 * 7)'"
    status, console = boot(host, "--cpus", "2", "--stats", "--", line)
    assert status == 0, console
    assert re.search(r"share host0: \d{3,} messages answered, \d+ refused", console)
    assert "\nnew" not in console
    assert "\n2\n42" in console.replace("\r", "")


def test_words_that_do_not_fit(host: Host) -> None:
    for words in (("--initrd", "none"), ("--kernel", "cloud"), ("--root", "0")):
        status, console = boot(host, *words)
        assert status == 2, console
        assert console.count("\n") == 1
