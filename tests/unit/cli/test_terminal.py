"""The terminal is raw while a guest has it and restored however that ends. On pseudo terminals, without KVM."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from corral.cli.terminal import Progress, Raw
from corral.voice import writer

LONG = 20.0

# A process that holds its terminal raw until something ends it.
HOLDER = """
import signal, sys
from corral.cli.terminal import Raw, leave_on_signals
leave_on_signals()
with Raw(0):
    print("raw", flush=True)
    {body}
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo terminal: ours, and the one that programs have."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def is_raw(descriptor: int) -> bool:
    input_modes, output_modes, _, local_modes, *_ = termios.tcgetattr(descriptor)
    cooked_local = termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN
    cooked_input = termios.ICRNL | termios.IXON
    return not (local_modes & cooked_local or input_modes & cooked_input or output_modes & termios.OPOST)


def holder(theirs: int, body: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(body=body)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"raw\n"
    return process


def fill(descriptor: int) -> None:
    while True:
        os.write(descriptor, b"x" * 4096)


def test_raw_and_back(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    with Raw(theirs):
        assert is_raw(theirs)
    assert termios.tcgetattr(theirs) == before


def test_an_exception_restores(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    with pytest.raises(ZeroDivisionError), Raw(theirs):
        raise ZeroDivisionError
    assert termios.tcgetattr(theirs) == before


def test_no_terminal_is_nothing_to_do() -> None:
    with Raw(None):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_and_is_the_exit_status(number: signal.Signals, terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    with holder(theirs, "signal.pause()") as process:
        assert is_raw(theirs)
        process.send_signal(number)
        assert process.wait(LONG) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert termios.tcgetattr(theirs) == before


def test_a_second_signal_does_not_interrupt_what_the_first_unwinds(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    body = """
    try:
        print("inside", flush=True)
        signal.pause()
    finally:
        signal.raise_signal(signal.SIGINT)
        print("unwound")
"""
    with holder(theirs, body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        process.terminate()
        assert process.wait(LONG) == 143
        assert process.stdout.read() == b"unwound\n"
    assert termios.tcgetattr(theirs) == before


def test_a_signal_before_the_body_begins_restores(terminal: tuple[int, int]) -> None:
    """__enter__ without __exit__: what is left is the end of the process."""
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    script = "from corral.cli.terminal import Raw; Raw(0).__enter__(); raise SystemExit(1)"
    done = subprocess.run([sys.executable, "-c", script], stdin=theirs, timeout=LONG, check=False)
    assert done.returncode == 1
    assert termios.tcgetattr(theirs) == before


def test_an_ignored_signal_stays_ignored(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    body = "signal.raise_signal(signal.SIGHUP); print('alive', flush=True)"
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + HOLDER.format(body=body)
    done = subprocess.run([sys.executable, "-c", script], stdin=theirs, capture_output=True, timeout=LONG, check=True)
    assert done.stdout == b"raw\nalive\n"


def test_continuing_makes_it_raw_again(terminal: tuple[int, int]) -> None:
    """A shell that takes the terminal back meanwhile sets it as it likes."""
    _, theirs = terminal
    before = termios.tcgetattr(theirs)
    with holder(theirs, "while True: signal.pause()") as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        termios.tcsetattr(theirs, termios.TCSANOW, before)
        process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + LONG
        while not is_raw(theirs) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_raw(theirs)
        process.terminate()
        assert process.wait(LONG) == 143
    assert termios.tcgetattr(theirs) == before


def test_a_terminal_that_hung_up_is_no_error() -> None:
    ours, theirs = pty.openpty()
    with Raw(theirs):
        os.close(ours)
        os.close(theirs)


def test_the_writer_does_not_block_and_changes_nothing_for_others(terminal: tuple[int, int]) -> None:
    _, theirs = terminal
    descriptor = writer(theirs)
    try:
        assert descriptor != theirs
        assert not os.get_blocking(descriptor)
        assert os.get_blocking(theirs)
        with pytest.raises(BlockingIOError):
            fill(descriptor)
    finally:
        os.close(descriptor)


def test_progress_without_a_terminal_is_a_line_for_each_step(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for text in ("fetching", "fetching", "building, 40 %", "building, 50 %", "done"):  # whatever the first is
            progress(text)
    assert capfd.readouterr().err.splitlines() == ["corral: fetching", "corral: building, 40 %", "corral: done"]


def test_progress_at_a_terminal_is_a_bar_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    monkeypatch.setattr(sys, "stderr", screen)
    moments = iter([0.0, 0.5, 2.0, 3.0])
    with Progress(clock=lambda: next(moments)) as progress:
        progress("building, 10 %")
        assert screen.getvalue() == "\r\x1b[Kcorral: building, 10 %"
        progress("building, 50 %")
        progress("building, 75 %")
    shown = screen.getvalue()
    assert "50%" in shown
    assert "75%" in shown
    assert "━" in shown or "─" in shown or "-" in shown


def test_a_bar_needs_no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    monkeypatch.setattr(sys, "stderr", screen)
    for name in ("rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    moments = iter([0.0, 0.5, 2.0])
    with Progress(clock=lambda: next(moments)) as progress:
        progress("building, 10 %")
        progress("building, 50 %")
    assert "corral: building, 50 %" in screen.getvalue()


def test_progress_without_a_terminal_tells_a_percentage_each_half_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    moments = iter([0.0, 10.0, 31.0, 31.0, 45.0])
    with Progress(clock=lambda: next(moments)) as progress:
        for text in ("building, 0 %", "building, 10 %", "building, 31 %", "building, 45 %"):
            progress(text)
    assert capfd.readouterr().err.splitlines() == ["corral: building, 0 %", "corral: building, 31 %"]
