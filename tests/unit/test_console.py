"""The console between a UART and descriptors; the guest is this test, register by register. No KVM."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from corral.backends import console as module
from corral.backends.console import CTRL_A, CTRL_D, HELP, Console
from corral.core.exits import Over
from corral.core.waiting import wait_for
from corral.errors import HostError
from corral.native import ffi, lib
from tests.support.uart import DATA, IER, IIR_FCR, LSR, LSR_DATA, LSR_THRE, MCR, OUT2, BareUart

LONG = 20.0  # seconds: no test waits for it unless it fails
SHORT = 0.05
RTS = 2
FIFO = 16


class Guest(BareUart):
    """The other end of the line."""

    def say(self, text: bytes) -> None:
        value = ffi.new("uint32_t *")
        for value[0] in text:
            lib.corral_uart_pio(self._uart.value, True, DATA, 1, value)

    def say_what_there_is_room_for(self, text: bytes) -> int:
        """How much of it."""
        said = 0
        while said < len(text) and self.inp(LSR) & LSR_THRE:
            self.say(text[said : said + FIFO])
            said += FIFO
        return min(said, len(text))

    def listen(self) -> None:
        """As Linux's driver does when a program opens the line."""
        self.out(IIR_FCR, 1)
        self.out(MCR, OUT2 | RTS)
        self.out(IER, 1)

    def hear(self) -> bytes:
        heard = bytearray()
        while self.inp(LSR) & LSR_DATA:
            heard.append(self.inp(DATA))
        return bytes(heard)


@dataclass
class Pipe:
    reader: int
    writer: int

    def read(self) -> bytes:
        os.set_blocking(self.reader, False)
        data = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        return data


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made = [Pipe(*os.pipe()) for _ in range(2)]
    yield made
    for descriptor in (descriptor for pipe in made for descriptor in (pipe.reader, pipe.writer)):
        try:
            os.close(descriptor)
        except OSError:  # the test did
            pass


@pytest.fixture
def out(pipes: list[Pipe]) -> Pipe:
    return pipes[0]


@pytest.fixture
def keyboard(pipes: list[Pipe]) -> Pipe:
    return pipes[1]


@pytest.fixture
def guest() -> Iterator[Guest]:
    guest = Guest()
    yield guest
    guest.close()


@pytest.fixture
def ended() -> Iterator[int]:
    descriptor = os.eventfd(0)
    yield descriptor
    os.close(descriptor)


def test_what_a_guest_said_before_it_ended_is_written(guest: Guest, out: Pipe, ended: int) -> None:
    guest.say(b"hello\n")
    os.eventfd_write(ended, 1)
    console = Console(out.writer)
    assert console.serve(guest, ended, LONG) is Over.ENDED
    console.finish(guest)
    assert out.read() == b"hello\n"
    assert console.tail == b"hello\n"


def test_bytes_are_written_as_they_are(guest: Guest, out: Pipe, ended: int) -> None:
    every = bytes(range(256))
    guest.say(every)
    console = Console(out.writer)
    assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
    assert out.read() == every


@pytest.mark.parametrize("room", [0, 1, 5000, 10_000])
def test_what_there_is_no_room_for_is_counted_and_lost(guest: Guest, out: Pipe, ended: int, room: int) -> None:
    guest.say(b"0123456789" * 1000)
    console = Console(out.writer)
    console.room = room
    assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
    guest.say(b"more")
    console.finish(guest)
    assert out.read() == (b"0123456789" * 1000)[:room]
    assert console.lost == 10_004 - room
    assert console.tail.endswith(b"789more")


def test_without_an_output_the_guest_is_not_held_back(guest: Guest, ended: int) -> None:
    guest.say(b"x" * 200_000)
    console = Console()
    assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
    assert guest.stats()["dropped"] == 0
    assert console.tail == b"x" * module.TAIL


def test_a_reader_who_stalls_costs_bounded_memory_and_loses_nothing(
    guest: Guest, out: Pipe, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH", 0.0)
    text = b"".join(b"%07d\n" % line for line in range(80_000))
    said = 0
    console = Console(out.writer)
    for _ in range(4):
        said += guest.say_what_there_is_room_for(text[said:])
        assert console.serve(guest, ended, 0.01) is Over.TIMEOUT
        assert len(console._pending) < 2 * module.MOST_PENDING
    assert said < len(text), "the guest was never held back"
    console.finish(guest)
    got = out.read()
    assert got == text[: len(got)]
    assert len(got) > 60_000  # a pipe's worth
    while len(got) < said:
        console.serve(guest, ended, 0.01)
        got += out.read()
    assert got == text[:said]


def test_a_reader_who_left_ends_it_even_when_the_guest_is_silent(guest: Guest, out: Pipe, ended: int) -> None:
    os.close(out.reader)
    assert Console(out.writer).serve(guest, ended, LONG) is Over.CLOSED


def test_a_reader_who_leaves_while_the_rest_is_written(guest: Guest, out: Pipe, ended: int) -> None:
    guest.say(b"hello")
    os.eventfd_write(ended, 1)
    console = Console(out.writer)
    assert console.serve(guest, ended, LONG) is Over.ENDED
    os.close(out.reader)
    console.finish(guest)


def test_a_full_disk_is_told(guest: Guest, ended: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    guest.say(b"hello")
    try:
        with pytest.raises(HostError, match="No space left"):
            Console(full).serve(guest, ended, LONG)
    finally:
        os.close(full)


def test_input_passes_as_it_is_without_a_person(guest: Guest, keyboard: Pipe, ended: int) -> None:
    guest.listen()
    os.write(keyboard.writer, b"a\x01xb")
    assert Console(None, keyboard.reader).serve(guest, ended, SHORT) is Over.TIMEOUT
    assert guest.hear() == b"a\x01xb"


@pytest.mark.parametrize(
    ("struck", "heard"),
    [
        (b"\x01a", b"\x01"),
        (b"\x01A", b"\x01"),
        (b"\x01\x01", b"\x01"),
        (b"\x01z", b"\x01z"),
        (b"a\x01ab\x03\x04\x1b[A", b"a\x01b\x03\x04\x1b[A"),
    ],
)
def test_escape_keys(struck: bytes, heard: bytes, guest: Guest, keyboard: Pipe, ended: int) -> None:
    guest.listen()
    console = Console(None, keyboard.reader, keys=keyboard.writer)
    for byte in struck:  # one at a time: Ctrl-A and its key come apart
        os.write(keyboard.writer, bytes([byte]))
        assert console.serve(guest, ended, SHORT / 5) is Over.TIMEOUT
    assert guest.hear() == heard


@pytest.mark.parametrize("key", [b"x", b"X"])
def test_ctrl_a_x_quits(key: bytes, guest: Guest, keyboard: Pipe, ended: int) -> None:
    os.write(keyboard.writer, b"abc\x01" + key + b"never read")
    assert Console(None, keyboard.reader, keys=keyboard.writer).serve(guest, ended, LONG) is Over.QUIT


@pytest.mark.parametrize("key", [b"h", b"H", b"?"])
def test_ctrl_a_h_helps(key: bytes, guest: Guest, out: Pipe, keyboard: Pipe, ended: int) -> None:
    guest.listen()
    os.write(keyboard.writer, b"\x01" + key)
    assert Console(None, keyboard.reader, keys=out.writer).serve(guest, ended, SHORT) is Over.TIMEOUT
    assert out.read() == ("\n" + HELP + "\n").replace("\n", "\r\n").encode()
    assert guest.hear() == b""


def test_ctrl_a_x_works_when_the_guest_listens_to_nothing(guest: Guest, keyboard: Pipe, ended: int) -> None:
    console = Console(None, keyboard.reader, keys=keyboard.writer)
    for _ in range(60):
        os.write(keyboard.writer, b"k" * 4000)
        assert console.serve(guest, ended, 0.002) is Over.TIMEOUT
    assert len(console._typed) <= module.MOST_TYPED
    os.write(keyboard.writer, bytes([CTRL_A]) + b"x")
    assert console.serve(guest, ended, LONG) is Over.QUIT


def test_ctrl_a_x_works_when_the_guest_has_ended_and_nobody_reads(
    guest: Guest, out: Pipe, keyboard: Pipe, ended: int
) -> None:
    guest.say(b"x" * 150_000)
    os.eventfd_write(ended, 1)
    console = Console(out.writer, keyboard.reader, keys=keyboard.writer)
    assert console.serve(guest, ended, None) is Over.ENDED
    os.write(keyboard.writer, b"\x01x")
    console.finish(guest)
    assert len(out.read()) < 150_000


def test_input_that_the_uart_has_no_room_for_is_kept_in_order(
    guest: Guest, ended: int, tmp_path: os.PathLike[str]
) -> None:
    text = b"".join(b"%07d\n" % line for line in range(8000))
    path = os.path.join(tmp_path, "input")
    with open(path, "wb") as file:
        file.write(text)
    descriptor = os.open(path, os.O_RDONLY)
    console = Console(None, descriptor)
    try:
        assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
        guest.listen()
        heard = b""
        while len(heard) <= len(text):
            heard += guest.hear()
            assert console.serve(guest, ended, 0.002) is Over.TIMEOUT
        assert heard[: len(text) + 1] == text + bytes([CTRL_D])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("of_a_person", [False, True])
def test_input_that_waits_for_room_waits_for_nothing_else(
    of_a_person: bool, guest: Guest, keyboard: Pipe, out: Pipe, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks again and again: each wait is without an end, and the guest's reading ends it."""
    text, enough = b"0123456789" * 6_000, 40_000  # of which some waits here until the end
    os.write(keyboard.writer, text)
    os.close(keyboard.writer)
    guest.listen()
    heard = b""

    def wait(wanted: dict[int, int], until: float | None = None) -> dict[int, int]:
        nonlocal heard
        assert until is None, f"it looks again in {until - time.monotonic():.3f} s"
        if not wait_for(wanted, time.monotonic()):  # it would sleep: the guest reads
            heard += guest.hear()
        if len(heard) >= enough:
            os.eventfd_write(ended, 1)
        came = wait_for(wanted, time.monotonic())
        assert came, "it would never wake up"
        return came

    monkeypatch.setattr(module, "wait_for", wait)
    console = Console(None, keyboard.reader, keys=out.writer if of_a_person else None)
    assert console.serve(guest, ended, None) is Over.ENDED
    assert len(heard) >= enough
    assert heard == text[: len(heard)]


def test_the_end_of_input_is_told_once_until_the_guest_hears_it_and_then_again(
    guest: Guest, keyboard: Pipe, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.001)
    os.write(keyboard.writer, b"exit")
    os.close(keyboard.writer)
    console = Console(None, keyboard.reader)
    assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
    guest.listen()
    assert guest.hear() == b"exit" + bytes([CTRL_D])
    heard = b""
    while len(heard) < 3:
        assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
        heard += guest.hear()
    assert heard == bytes([CTRL_D]) * len(heard)


def test_input_that_cannot_be_read_is_at_its_end(guest: Guest, ended: int, tmp_path: os.PathLike[str]) -> None:
    guest.listen()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert Console(None, folder).serve(guest, ended, SHORT) is Over.TIMEOUT
    finally:
        os.close(folder)
    assert guest.hear() == bytes([CTRL_D])


def test_ctrl_a_i_and_h_tell_of_guest_and_keys(guest: Guest, ended: int, out: Pipe, keyboard: Pipe) -> None:
    console = Console(None, keyboard.reader, keys=out.writer)
    console.about = lambda: "a guest of mine\nwith a disk"
    os.write(keyboard.writer, b"\x01i\x01h")
    assert console.serve(guest, ended, SHORT) is Over.TIMEOUT
    told = out.read()
    assert b"\r\na guest of mine\r\nwith a disk\r\n" in told
    for keys in (b"X", b"I", b"A", b"H"):
        assert b"Ctrl-A " + keys in told
    assert b"\n" not in told.replace(b"\r\n", b"")
    guest.listen()
    assert guest.hear() == b""


def test_a_guest_that_says_nothing_is_told_of_a_few_times(
    guest: Guest, ended: int, out: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.backends.console.SILENT", (0.01, 0.02, 30.0))
    console = Console(None, None, keys=out.writer)
    console.hint = "leave it"
    assert console.serve(guest, ended, 0.1) is Over.TIMEOUT
    assert out.read().count(b"corral: the guest has said nothing for 0 s; leave it\r\n") == 2


@pytest.mark.parametrize(("hint", "said"), [("leave it", b"x"), ("", b"")])
def test_a_guest_that_says_something_or_has_no_hint_is_not(
    hint: str, said: bytes, guest: Guest, ended: int, out: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.backends.console.SILENT", (0.02,))
    console = Console(None, None, keys=out.writer)
    console.hint = hint
    guest.say(said)
    assert console.serve(guest, ended, 0.1) is Over.TIMEOUT
    assert out.read() == b""
