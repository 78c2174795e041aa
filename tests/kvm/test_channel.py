"""Commands and scripts by the channel: bytes of a guest's Linux, apart and as they are; its terminal's size."""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel

CORRAL = [sys.executable, "-m", "corral", "boot", "--timeout", "240"]
LONG = 280.0
MANY = 10 << 20


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")
    initramfs.path()  # which says so while it is built


def run(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    small = kernel.get(kernel.SMALL).path
    return subprocess.run([*CORRAL, small, *words], input=input, capture_output=True, timeout=LONG)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_output_and_errors_are_apart_and_as_they_are() -> None:
    done = run("--", r"printf 'a\0b\r\n\004\001x'; printf 'err\n' >&2; printf more >/dev/stderr; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0b\r\n\x04\x01x", b"err\nmore")


def test_ten_megabytes_go_through_a_command_as_they_are() -> None:
    data = noise(MANY)
    done = run("--", "cat", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_files_are_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(noise(300_000))
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        command = [*CORRAL, kernel.get(kernel.SMALL).path, "--", "cat"]
        done = subprocess.run(command, stdin=source, stdout=sink, timeout=LONG)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == noise(300_000)


@pytest.mark.parametrize("length", [1100, 5000, MANY])
def test_a_line_of_a_script_may_be_as_long_as_it_likes(length: int) -> None:
    done = run(input=b"x=%s; echo ${#x}; exit 3\n" % (b"a" * length))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"%d\n" % length, b"")


def test_a_script_ends_with_its_input() -> None:
    assert run().returncode == 0
    done = run(input=b"echo one\necho two >&2\nfalse\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"one\n", b"two\n")


def test_a_command_that_does_not_read_its_input_is_not_held_up() -> None:
    done = run("--", "exec 0<&-; echo done; exit 5", input=noise(1 << 20))
    assert (done.returncode, done.stdout) == (5, b"done\n")


def test_what_goes_on_behind_a_command_is_not_waited_for() -> None:
    began = time.monotonic()
    done = run("--", "sleep 200 & echo here; exit 4")
    assert (done.returncode, done.stdout) == (4, b"here\n")
    assert time.monotonic() - began < 150


def test_a_signals_end_is_told_as_a_shell_does() -> None:
    assert run("--", "kill -KILL $$").returncode == 137


def test_the_consoles_words_go_where_they_are_wanted(tmp_path: Path) -> None:
    log = tmp_path / "console"
    done = run("--console", f"file:{log}", "--", "echo out; echo kernel >/dev/kmsg; echo console >/dev/ttyS0")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"")
    assert b"corral: init" in log.read_bytes()
    assert b"console" in log.read_bytes()
    done = run("--console", "stderr", "--", "echo out")
    assert done.stdout == b"out\n"
    assert b"corral: init" in done.stderr


def test_a_guest_that_ends_without_a_status_shows_its_console() -> None:
    done = run("--", "echo out; echo the last words >/dev/ttyS0; reboot -f")
    assert (done.returncode, done.stdout) == (4, b"out\n")
    assert b"the last words" in done.stderr
    assert b"ended without telling the exit status" in done.stderr


def test_a_kernel_without_the_ports_says_so() -> None:
    done = run("--append", "initcall_blacklist=virtio_console_init", "--", "true")
    assert done.returncode == 4
    assert b"this kernel has no ports of virtio-console" in done.stderr


def test_a_reader_who_goes_away_ends_the_guest() -> None:
    command = [*CORRAL, kernel.get(kernel.SMALL).path, "--", "yes"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.wait(LONG) == 141


def test_a_reader_who_does_not_read_holds_back_the_guest_and_not_the_timeout() -> None:
    words = ["boot", "--timeout", "8", kernel.get(kernel.SMALL).path, "--", "yes"]
    command = [sys.executable, "-m", "corral", *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    assert process.wait(LONG) == 124
    assert b"did not end within 8 s" in process.stderr.read()
    assert process.stdout
    assert len(process.stdout.read()) <= 1 << 20, "more than a pipe holds"


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        command = [*CORRAL, kernel.get(kernel.SMALL).path, "--", "echo out"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, timeout=LONG)
    assert done.returncode == 3
    assert b"cannot write standard output: No space left on device" in done.stderr


@pytest.mark.parametrize("disks", [16, 0])
def test_disks_keep_their_names_beside_the_channel(disks: int, tmp_path: Path) -> None:
    """Sixteen and a channel are as many devices as there are lines."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    words = [word for _ in range(disks) for word in ("--disk", f"{image},ro")]
    done = run(*words, "--root", "none", "--", "ls /dev | grep -c ^vd; ls /dev/vport*p0")
    assert done.stdout == b"%d\n/dev/vport%dp0\n" % (disks, disks)


class Terminal:
    """A pseudo-terminal of 40 rows and 132 columns, with `corral boot` in its foreground."""

    def __init__(self, *words: str) -> None:
        self.screen = b""
        self._ours, theirs = os.openpty()
        self.resize(40, 132)
        self.process = subprocess.Popen(
            [*CORRAL, kernel.get(kernel.SMALL).path, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def sees(self, text: bytes) -> None:
        deadline = time.monotonic() + LONG
        while text not in self.screen:
            assert select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0], self.screen
            self.screen += os.read(self._ours, 65536)

    def types(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def test_a_terminals_size_is_the_guests_from_the_start_and_follows(terminals: list[Terminal]) -> None:
    terminal = Terminal("--", "trap 'stty size; exit 5' WINCH; stty size; tty; while :; do sleep 0.1; done")
    terminals.append(terminal)
    terminal.sees(b"40 132\r\n/dev/ttyS0")
    terminal.resize(50, 101)
    terminal.sees(b"50 101")
    terminal.sees(b"reboot: Restarting system")
    assert terminal.process.wait(LONG) == 5


def test_a_shell_at_a_terminal_knows_its_size(terminals: list[Terminal]) -> None:
    terminal = Terminal()
    terminals.append(terminal)
    terminal.sees(b"/ # ")
    terminal.types(b"stty size; exit 6\r")
    terminal.sees(b"40 132")
    terminal.sees(b"reboot: Restarting system")
    assert terminal.process.wait(LONG) == 6
