"""What the command says is readable, and waits for no reader longer than it may."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.full_pipe import full_pipe

LONG = 20.0
SPEAKER = """
import sys, time
from corral import voice
from corral.cli.terminal import leave_on_signals
{before}
with voice.Speaking():
    {body}
"""


class Speaker:
    """A process that speaks into a pipe, or two."""

    def __init__(self, body: str, before: str = "", full: bool = False) -> None:
        self.reader, writer = full_pipe() if full else os.pipe()
        code = SPEAKER.format(body=body, before=before)
        self.started = time.monotonic()
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=writer)
        os.close(writer)

    def said(self) -> bytes:
        with open(self.reader, "rb") as file:
            found = file.read()
        assert self.process.wait(LONG) == 0
        return found

    def seconds(self, status: int) -> float:
        """Until its end, with a reader that stands still."""
        try:
            assert self.process.wait(LONG) == status
        finally:
            self.process.kill()
            os.close(self.reader)
        return time.monotonic() - self.started


def test_what_others_wrote_does_nothing_to_a_terminal() -> None:
    speaker = Speaker(
        r"""print("a\x1b[2Jb\x9bc\r\x07\u202e d\te", file=sys.stderr); print("\x1b", "Grüße", "\udc80")"""
    )
    assert speaker.said().decode() == "a\\x1b[2Jb\\x9bc\\r\\x07\\u202e d\te\n\\x1b Grüße \\udc80\n"


def test_what_is_meant_for_the_terminal_gets_there() -> None:
    assert Speaker(r"""voice.control("\r\x1b[K"); print("x", file=sys.stderr)""").said() == b"\r\x1b[Kx\n"


def test_all_of_it_gets_to_a_reader_who_is_slow() -> None:
    speaker = Speaker("for n in range(20000): print(n, file=sys.stderr if n % 2 else sys.stdout)")
    time.sleep(0.5)
    found = speaker.said().split()
    assert sorted(map(int, found)) == list(range(20000))
    for odd in (0, 1):
        assert [n for n in map(int, found) if n % 2 == odd] == list(range(odd, 20000, 2))


def test_a_reader_who_stands_still_is_not_waited_for_past_the_time() -> None:
    for body in ("print('x')", "print('x' * 1000000)", "print('x', file=sys.stderr)"):
        speaker = Speaker(f"voice.wait_until(time.monotonic() + 0.5); {body}", full=True)
        assert 0.4 < speaker.seconds(0) < 2.5


def test_words_do_not_wait_for_it_at_all() -> None:
    body = "t = time.monotonic(); print('x' * 60000); voice.hurry(); assert time.monotonic() - t < 0.3"
    assert Speaker(body, full=True).seconds(0) < 2.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", ["print('x')", "print('x' * 1000000)"])
def test_a_signal_ends_the_wait_for_one(body: str, number: signal.Signals) -> None:
    speaker = Speaker(body, before="leave_on_signals()", full=True)
    time.sleep(1)
    assert speaker.process.poll() is None
    speaker.started = time.monotonic()
    speaker.process.send_signal(number)
    assert speaker.seconds(128 + number) < 2


def test_a_reader_who_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "corral", "--help"]
    assert subprocess.run(command, stdout=writer, timeout=LONG).returncode == 141
    assert subprocess.run([*command, "x"], stderr=writer, timeout=LONG).returncode == 0
    os.close(writer)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_several_threads_say_each_thing_once(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from corral import voice

    reader, writer = ends
    with os.fdopen(os.dup(writer), "w") as stream:
        one = voice.Voice(stream, stream.fileno())
        parts: list[bytes] = []
        listening = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(reader, 4096), b"end\n")))
        listening.start()
        speaking = [
            threading.Thread(target=lambda n=n: [one.write(f"{n}-{i}\n") for i in range(2000)])  # type: ignore[misc]
            for n in range(4)
        ]
        for thread in speaking:
            thread.start()
        for thread in speaking:
            thread.join()
        one.finish()
        one.close()
        time.sleep(0.2)
        os.write(writer, b"end\n")
        listening.join()
    assert sorted(b"".join(parts).decode().split()) == sorted(f"{n}-{i}" for n in range(4) for i in range(2000))


def asked(typed: bytes, **instead: int) -> tuple[str, str]:
    """What the terminal shows of a question, and what came of it. `instead` of the terminal some streams are others."""
    ours, theirs = pty.openpty()
    reader, writer = os.pipe()
    body = f"answer = voice.ask('may I?'); import os; os.write({writer}, str(answer).encode())"
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **instead}
    command = [sys.executable, "-c", SPEAKER.format(before="", body=body)]
    process = subprocess.Popen(command, pass_fds=[writer], start_new_session=True, **streams)  # type: ignore[call-overload]
    os.close(theirs)
    os.close(writer)
    os.write(ours, typed)
    assert process.wait(LONG) == 0
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other end is gone
        pass
    os.close(ours)
    with open(reader) as file:
        return shown.decode(), file.read()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (b"y\n", "True"),
        (b" YES \n", "True"),
        (b"\n", "False"),
        (b"n\n", "False"),
        (b"yesterday\n", "False"),
        (b"\x04", "False"),
    ],
)
def test_a_person_is_asked(typed: bytes, answer: str) -> None:
    shown, came = asked(typed)
    assert came == answer
    assert "corral: may I? [y/N]" in shown


@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_who_is_no_person_is_not_asked(stream: str) -> None:
    shown, came = asked(b"y\n", **{stream: subprocess.DEVNULL})
    assert came == "False"
    assert "may I" not in shown
