"""A guest ends within a second of being asked to, whatever it has queued and however the host answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bare_guests import hostile_guest
from tests.support.full_pipe import full_pipe
from tests.support.fuse_file import FuseFile
from tests.support.tiny_guests import tiny_guest

LIMIT = 10.0  # seconds: it takes less than one, a busy machine has its own time, and the faults took 45 or never ended
BEFORE = 6.0  # that a guest has until its --timeout
ASKED = (None, signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 1 << 30)
    return path


class Flood:
    """A guest that floods a disk when it is told to go."""

    def __init__(self, words: str, disk: str, timeout: float = 60) -> None:
        command = [sys.executable, "-m", "corral", "boot", str(hostile_guest("blk_flood")), "--root", "none"]
        command += ["--memory", "64M", "--disk", disk, "--timeout", str(timeout), "--append", words]
        self.over = time.monotonic() + timeout
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self.expect(b"ready\n")

    def expect(self, line: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"g")
        self.expect(b"posted\n")

    def ends(self, by: signal.Signals | None) -> float:
        """Seconds that it took since it was asked to, by a signal or by its timeout."""
        asked = time.monotonic() if by else self.over
        if by:
            self.process.send_signal(by)
        try:
            self.process.communicate(timeout=max(0, self.over - time.monotonic()) + 20)
        finally:
            self.process.kill()
        assert self.process.returncode == (128 + by if by else 124)
        return time.monotonic() - asked


@pytest.mark.parametrize("by", ASKED)
@pytest.mark.parametrize("how", ["ro", "ro,cache=direct", "snapshot=on", "rw"])
def test_with_its_queue_full_of_requests_of_4_gib(image: Path, how: str, by: signal.Signals | None) -> None:
    disk = str(image) if how == "rw" else f"{image},{how}"
    words = "op=write segments=63" if how in ("snapshot=on", "rw") else "segments=254"
    flood = Flood(words, disk, 60 if by else BEFORE)
    flood.go()
    time.sleep(0.2)
    assert flood.ends(by) < LIMIT


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("by", ASKED)
@pytest.mark.parametrize("operation", ["read", "write"])
def test_with_an_image_on_a_file_system_that_is_dead(tmp_path: Path, operation: str, by: signal.Signals | None) -> None:
    with FuseFile(tmp_path / "mount", 1 << 30, dead=True) as file:
        flood = Flood(f"op={operation} segments=4", str(file.path), 60 if by else BEFORE)
        file.silent.set()
        flood.go()
        time.sleep(0.2)
        assert flood.ends(by) < LIMIT


def test_a_reset_of_a_disk_with_a_full_queue_does_not_wait_for_it(image: Path) -> None:
    flood = Flood("segments=254 reset", f"{image},ro,cache=direct")
    flood.go()
    started = time.monotonic()
    flood.expect(b"reset\n")
    assert time.monotonic() - started < LIMIT
    assert flood.process.wait(20) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_reset_of_a_disk_that_never_answers_comes_back_and_is_not_complete(tmp_path: Path) -> None:
    with FuseFile(tmp_path / "mount", 1 << 30) as file:
        flood = Flood("segments=4 reset", str(file.path))
        file.silent.set()
        flood.go()
        started = time.monotonic()
        assert flood.process.stdout is not None
        # The reset may overtake the requests; then all are done with.
        assert flood.process.stdout.readline() in (b"reset, status 15\n", b"reset\n")
        assert time.monotonic() - started < LIMIT
    assert flood.process.wait(20) == 0


@pytest.mark.parametrize("by", ASKED)
@pytest.mark.parametrize("guest", ["spin", "triple_fault"])
def test_with_standard_output_and_error_in_a_pipe_that_is_full(guest: str, by: signal.Signals | None) -> None:
    reader, writer = full_pipe()
    command = [sys.executable, "-m", "corral", "boot", str(tiny_guest(guest)), "--memory", "16M"]
    command += [] if by else ["--timeout", "2"]
    over = time.monotonic() + 2
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    try:
        if by:
            time.sleep(2)
            assert process.poll() is None
            process.send_signal(by)
        assert process.wait(20) in ((128 + by, 4) if by else (124, 4))
        assert time.monotonic() - over < LIMIT
    finally:
        process.kill()
        os.close(reader)
        os.close(writer)
