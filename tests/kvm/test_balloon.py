"""`corral boot --balloon`: what a guest has used and freed is the host's again."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from corral.guests import initramfs, kernel

MIB = 200
LONG = 120


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    initramfs.path()


def resident(pid: int) -> int:
    """MiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("Rss:"))


def test_memory_that_was_freed_is_back_within_seconds() -> None:
    fill = f"dd if=/dev/zero of=/tmp/big bs=1M count={MIB} 2>/dev/null"
    script = f"{fill}; echo full; read x; rm /tmp/big; echo empty; read x"
    words = ["boot", "--fresh", "--balloon", "--memory", "512M", "--timeout", "100", "--stats", "--", script]
    with subprocess.Popen([sys.executable, "-m", "corral", *words], stdin=-1, stdout=-1, stderr=-1, text=True) as guest:
        assert guest.stdin
        assert guest.stdout
        assert guest.stdout.readline() == "full\n"
        full = resident(guest.pid)
        guest.stdin.write("\n")
        guest.stdin.flush()
        assert guest.stdout.readline() == "empty\n"
        end = time.monotonic() + 60
        while full - resident(guest.pid) < 0.7 * MIB and time.monotonic() < end:
            time.sleep(0.1)
        back = full - resident(guest.pid)
        _, errors = guest.communicate("\n", timeout=LONG)
    assert full > MIB
    assert back >= 0.7 * MIB, errors
    assert guest.returncode == 0, errors
