"""The archive of init and busybox, read back by the host's cpio where there is one, and byte by byte."""

from __future__ import annotations

import os
import stat
import subprocess

from corral.guests import initramfs

INIT, BUSYBOX, AGENT = b"\x7fELF init", b"\x7fELF busybox" * 1000, b"\x7fELF agent"


def entries(archive: bytes) -> list[tuple[str, int, bytes, tuple[int, int]]]:
    """(name, mode, data, device) of each, as buffer-format.rst says."""
    found, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + i * 8 : at + 14 + i * 8], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        assert archive[at + 110 + fields[11] - 1] == 0
        at += 110 + fields[11]
        at += -at % 4
        found.append((name, fields[1], archive[at : at + fields[6]], (fields[9], fields[10])))
        at += fields[6]
        at += -at % 4
    return found


def test_it_holds_what_a_kernel_needs_and_no_more() -> None:
    files = entries(initramfs.archive(INIT, BUSYBOX, AGENT))
    assert files[-1][0] == "TRAILER!!!"
    found = {name: (mode, data, device) for name, mode, data, device in files[:-1]}
    assert found["init"] == (stat.S_IFREG | 0o755, INIT, (0, 0))
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, BUSYBOX, (0, 0))
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox", (0, 0))
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert found["agent"] == (stat.S_IFREG | 0o755, AGENT, (0, 0))
    assert set(found) == {"init", "agent", "bin", "bin/busybox", "bin/sh", "dev", "dev/console"}


def test_a_folder_comes_before_what_is_in_it() -> None:
    names = [name for name, *_ in entries(initramfs.archive(INIT, BUSYBOX, AGENT))]
    for index, name in enumerate(names):
        folder = os.path.dirname(name)
        assert not folder or folder in names[:index]


def test_cpio_reads_it() -> None:
    archive = initramfs.archive(INIT, BUSYBOX, AGENT)
    listing = subprocess.run(["cpio", "--list", "--quiet"], input=archive, capture_output=True, check=True)
    assert listing.stdout.split() == [b"dev", b"dev/console", b"init", b"agent", b"bin", b"bin/busybox", b"bin/sh"]
    assert listing.stderr == b""
