"""Fifty boots in a row with a disk, two CPUs and idle phases: each ends as it should, with what it wrote on the disk.
All but the first few are in `make test-all` only."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

BOOTS = [pytest.param(number, marks=[pytest.mark.long] if number >= 5 else []) for number in range(50)]
SIZE = 3 << 20  # bytes that each boot writes

WORK = f"""
head -c {SIZE} /dev/urandom > /tmp/data
sleep 0.2
cat /tmp/data > /dev/vda & cat /tmp/data | md5sum & wait
sync
sleep 0.1
echo 3 > /proc/sys/vm/drop_caches
head -c {SIZE} /dev/vda | md5sum
dmesg | grep -E '(B[U]G|WARN[I]NG|O[o]ps): |self-d[e]tected' || echo nothing wrong
exit 21
"""


@pytest.mark.parametrize("number", BOOTS)
def test_each_ends_as_it_should(tmp_path: Path, number: int) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(SIZE))
    done = subprocess.run(
        [sys.executable, "-m", "corral", "boot", "--cpus", "2", "--root", "none", "--disk", str(disk), "--", WORK],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 21, done.stdout + done.stderr
    assert b"nothing wrong" in done.stdout
    wanted = hashlib.md5(disk.read_bytes()).hexdigest().encode()
    assert done.stdout.count(wanted) == 2, done.stdout
