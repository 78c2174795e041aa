"""A shared folder: messages between a driver's queue and a server, a real one and others that misbehave."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.backends.folder_server import FolderServer
from corral.config import ShareConfig
from corral.core.irq import VirtioInterrupt
from corral.memory import GuestMemory
from corral.native import ffi, lib
from tests.support.p9_client import LERROR, NO_FID, NO_USER, message, string
from tests.support.virtio_driver import Queue, align

T_VERSION, T_ATTACH, T_WALK, T_OPEN, T_READ, T_FLUSH = 100, 104, 110, 12, 116, 108
EIO, EINVAL = errno.EIO, errno.EINVAL
ROOM = 4096
WHO = struct.pack("<II", 1, NO_FID) + string(b"nobody") + string(b"") + struct.pack("<I", NO_USER)


class Driver:
    """Of a virtio-9p device over a server's socket."""

    def __init__(self, server_fd: int) -> None:
        self.memory = GuestMemory(8 << 20)
        self.interrupt = VirtioInterrupt(None, 5)
        self.queue = Queue(self.memory, 0x1000, 128, event_idx=False)
        self.at = align(self.queue.end, 4096)
        worker = ffi.new("struct corral_worker_config *", {"name": b"9p", "broken_fd": -1})
        self.p9 = lib.corral_p9_create(worker, server_fd, self.memory.native, self.interrupt.native)
        self.answers: dict[int, bytes] = {}
        self.rooms: dict[int, int] = {}

    def start(self, **changed: int) -> int:
        self.queue.reset()
        setup = ffi.new("struct corral_virtq_setup *", self.queue.setup() | changed)
        features = 1 << 28
        doorbell = ffi.new("int *", self.queue.kick_fd)
        return int(lib.corral_p9_start(self.p9, features, setup, doorbell))

    def send(self, content: bytes, room: int = ROOM, pieces: int = 1) -> int:
        """Returns the head of the chain."""
        source, target = self.at, self.at + align(len(content), 16)
        self.at = target + align(max(room, 1), 16)
        if self.at > 7 << 20:
            self.at = align(self.queue.end, 4096)
        self.memory.write(source, content)
        step = max(1, len(content) // pieces)
        cuts = [*range(0, len(content), step)][:pieces]
        ends = [*cuts[1:], len(content)]
        readable = [(source + a, b - a) for a, b in zip(cuts, ends, strict=True)]
        head = self.queue.add(readable, [(target, room)] if room else [], indirect=True)
        self.rooms[head] = target
        self.queue.show()
        return head

    def wait(self, head: int, timeout: float = 20) -> bytes:
        end = time.monotonic() + timeout
        while head not in self.answers:
            for got, written in self.queue.take_used():
                self.answers[got] = self.memory.read(self.rooms[got], written) if written else b""
            if head not in self.answers:
                assert time.monotonic() < end, "no answer"
                select.select([self.interrupt.fd.value], [], [], 0.2)
        return self.answers.pop(head)

    def ask(self, kind: int, tag: int, body: bytes = b"", **options: int) -> tuple[int, int, bytes]:
        """(type, tag, body) of the answer."""
        answer = self.wait(self.send(message(kind, tag, body), **options))
        size, kind, tag = struct.unpack_from("<IBH", answer)
        assert size == len(answer)
        return kind, tag, answer[7:]

    def error(self, kind: int, tag: int, body: bytes = b"", **options: int) -> int:
        kind, answered, body = self.ask(kind, tag, body, **options)
        assert (kind, answered) == (LERROR, tag)
        return int(struct.unpack("<I", body)[0])

    def close(self) -> None:
        lib.corral_p9_destroy(self.p9)
        self.queue.close()
        self.interrupt.close()
        self.memory.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Driver]:
    """A driver that has attached to a folder with the file `hello` in it, by the real server; fid 1 is the folder."""
    (tmp_path / "hello").write_text("hello from outside")
    server = FolderServer(ShareConfig(str(tmp_path)))
    driver = Driver(server.fd)
    assert driver.start() == 0
    assert driver.ask(T_VERSION, 0xFFFF, struct.pack("<I", 65536) + string(b"9P2000.L"))[0] == T_VERSION + 1
    assert driver.ask(T_ATTACH, 1, WHO)[0] == T_ATTACH + 1
    yield driver
    driver.close()
    server.close()


def test_a_file_is_read(shared: Driver) -> None:
    driver = shared
    assert driver.ask(T_WALK, 2, struct.pack("<IIH", 1, 2, 1) + string(b"hello"), pieces=5)[0] == T_WALK + 1
    assert driver.ask(T_OPEN, 3, struct.pack("<II", 2, 0))[0] == T_OPEN + 1
    kind, _, body = driver.ask(T_READ, 4, struct.pack("<IQI", 2, 0, 100))
    assert (kind, body) == (T_READ + 1, struct.pack("<I", 18) + b"hello from outside")
    assert lib.corral_p9_answered(driver.p9) == 5
    assert lib.corral_p9_refused(driver.p9) == 0


@pytest.fixture
def line() -> Iterator[tuple[Driver, socket.socket]]:
    """A driver that runs, and the socket where the test is its server."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    driver = Driver(ours.fileno())
    assert driver.start() == 0
    yield driver, theirs
    driver.close()
    ours.close()
    theirs.close()


def received(server: socket.socket) -> bytes:
    """The next message, whole."""
    message = b""
    size = 7
    while len(message) < size:  # MSG_WAITALL waits for nothing where there is a time limit
        message += server.recv(size - len(message))
        size = struct.unpack_from("<I", message)[0] if len(message) >= 7 else 7
    return message


def test_answers_in_another_order(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    heads = {tag: driver.send(message(T_READ, tag, bytes([tag]) * tag)) for tag in range(40)}
    asked = [received(server) for _ in range(40)]
    assert asked == [message(T_READ, tag, bytes([tag]) * tag) for tag in range(40)]
    for tag in reversed(range(40)):
        server.sendall(message(T_READ + 1, tag, b"answer %d" % tag))
    for tag, head in heads.items():
        assert driver.wait(head) == message(T_READ + 1, tag, b"answer %d" % tag)


def test_what_is_taken_back_is_never_answered(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    old = driver.send(message(T_READ, 7))
    flush = driver.send(message(T_FLUSH, 8, struct.pack("<H", 7)))
    received(server), received(server)
    server.sendall(message(T_FLUSH + 1, 8))
    assert driver.wait(flush) == message(T_FLUSH + 1, 8)
    assert driver.wait(old) == b""
    server.sendall(message(T_READ + 1, 7, b"too late"))
    head = driver.send(message(T_READ, 7))  # its tag is free
    received(server)
    server.sendall(message(T_READ + 1, 7, b"in time"))
    assert driver.wait(head) in (message(T_READ + 1, 7, b"too late"), message(T_READ + 1, 7, b"in time"))


def test_one_that_takes_itself_back(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    head = driver.send(message(T_FLUSH, 8, struct.pack("<H", 8)))
    received(server)
    server.sendall(message(T_FLUSH + 1, 8))
    assert driver.wait(head) == b""


def test_an_answer_longer_than_its_room(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    head, other = driver.send(message(T_READ, 1), room=20), driver.send(message(T_READ, 2), room=0)
    received(server), received(server)
    server.sendall(message(T_READ + 1, 1, b"x" * 100) + message(T_READ + 1, 2, b"x" * 100))
    assert driver.wait(head) == message(T_READ + 1, 1, b"x" * 100)[:20]
    assert driver.wait(other) == b""


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        message(T_READ, 1)[:6],
        struct.pack("<IBH", 8, T_READ, 1),
        struct.pack("<IBH", 6, T_READ, 1),
        struct.pack("<IBH", 0xFFFFFFFF, T_READ, 1),
        message(T_READ, 1, bytes(lib.CORRAL_P9_MESSAGE_MAX)),
    ],
)
def test_messages_of_another_length_than_they_say(line: tuple[Driver, socket.socket], content: bytes) -> None:
    driver, server = line
    kind, _, ecode = struct.unpack("<4xBHI", driver.wait(driver.send(content)))
    assert (kind, ecode) == (LERROR, EINVAL)
    head = driver.send(message(T_READ, 1))  # and the server has heard nothing of it
    assert received(server) == message(T_READ, 1)
    server.sendall(message(T_READ + 1, 1))
    assert driver.wait(head) == message(T_READ + 1, 1)


def test_a_tag_that_is_taken(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    first = driver.send(message(T_READ, 1))
    assert driver.error(T_READ, 1) == EINVAL
    received(server)
    server.sendall(message(T_READ + 1, 1))
    assert driver.wait(first) == message(T_READ + 1, 1)


@pytest.mark.parametrize("last", [b"", b"abc", struct.pack("<IBH", 6, 1, 1), struct.pack("<IBH", 1 << 30, 1, 1)])
def test_a_server_that_ends(line: tuple[Driver, socket.socket], last: bytes) -> None:
    driver, server = line
    heads = [driver.send(message(T_READ, tag)) for tag in range(5)]
    for _ in heads:
        received(server)
    server.sendall(last)
    server.shutdown(socket.SHUT_RDWR)
    for head in heads:
        assert struct.unpack("<I", driver.wait(head)[7:])[0] == EIO
    assert driver.error(T_READ, 9) == EIO


def test_a_server_that_takes_nothing(line: tuple[Driver, socket.socket]) -> None:
    driver, _ = line
    for tag in range(100):
        driver.send(message(T_READ, tag, bytes(30_000)))
    started = time.monotonic()
    lib.corral_p9_stop(driver.p9)
    assert time.monotonic() - started < 10


def test_a_stop_is_quick_whatever_the_server_does(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    driver.send(message(T_READ, 1))
    received(server)
    server.sendall(message(T_READ + 1, 1, bytes(100))[:50])  # half of an answer
    assert lib.corral_p9_stop(driver.p9) == 0


def test_answers_of_an_earlier_session_are_nobody_s(line: tuple[Driver, socket.socket]) -> None:
    """The server owes answers to what was asked before the reset; tags are the driver's to use again."""
    driver, server = line
    heads = [driver.send(message(kind, tag)) for kind, tag in ((T_READ, 1), (T_VERSION, 0xFFFF), (T_READ, 2))]
    asked = [received(server) for _ in heads]
    server.sendall(message(T_READ + 1, 1, b"half")[:8])
    assert lib.corral_p9_stop(driver.p9) == 0
    assert driver.start() == 0
    assert received(server)[4:7] == struct.pack("<BH", T_VERSION, 0xFFFF)
    head = driver.send(message(T_READ, 2))
    assert received(server) == message(T_READ, 2)
    server.sendall(message(T_READ + 1, 1, b"half")[8:])
    for old in asked[1:]:
        server.sendall(message(old[4] + 1, *struct.unpack_from("<H", old, 5), b"stale"))
    server.sendall(message(T_VERSION + 1, 0xFFFF))
    server.sendall(message(T_READ + 1, 2, b"fresh"))
    assert driver.wait(head) == message(T_READ + 1, 2, b"fresh")


def test_a_message_that_a_reset_cut_is_completed_first(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    sent = [message(T_READ, tag, bytes([tag]) * 60_000) for tag in range(60)]
    for content in sent:
        driver.send(content)
    got = [received(server)]
    time.sleep(0.2)  # and the socket is full again
    assert lib.corral_p9_stop(driver.p9) == 0
    assert driver.start() == 0
    got.append(received(server))
    while got[-1][4] != T_VERSION:
        got.append(received(server))
    assert 0 < len(got) - 1 < len(sent)
    assert got[:-1] == sent[: len(got) - 1]


def test_a_driver_that_begins_anew_finds_no_fid_and_the_same_server(shared: Driver) -> None:
    driver = shared
    for _ in range(20):
        assert lib.corral_p9_stop(driver.p9) == 0
        assert driver.start() == 0
        assert driver.error(T_OPEN, 3, struct.pack("<II", 1, 0)) == errno.EBADF
        assert driver.ask(T_ATTACH, 1, WHO)[0] == T_ATTACH + 1
        driver.send(message(T_WALK, 2, struct.pack("<IIH", 1, 2, 1) + string(b"hello")))  # and looks at no answer


def test_a_server_that_has_ended_stays_so(line: tuple[Driver, socket.socket]) -> None:
    driver, server = line
    server.shutdown(socket.SHUT_RDWR)
    assert driver.error(T_READ, 9) == EIO
    assert lib.corral_p9_stop(driver.p9) == 0
    assert driver.start() == 0
    assert driver.error(T_READ, 9) == EIO


def test_a_broken_queue(line: tuple[Driver, socket.socket]) -> None:
    driver, _ = line
    driver.queue.put(0xFFFF)
    driver.queue.show(kick=True)
    assert select.select([driver.interrupt.fd.value], [], [], 20)[0]
    assert lib.corral_p9_failed(driver.p9)


def test_queues_that_cannot_be() -> None:
    ours, theirs = socket.socketpair()
    driver = Driver(ours.fileno())
    assert driver.start(desc=1 << 40) == -14
    assert driver.start(size=3) == -EINVAL
    assert driver.start(ready=0) == -EINVAL
    assert driver.start() == 0
    assert driver.start() == -16
    driver.close()
    ours.close()
    theirs.close()


@given(st.lists(st.one_of(st.binary(max_size=64), st.builds(message, st.integers(0, 255), st.integers(0, 3)))))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_messages_to_the_real_server(shared: Driver, contents: list[bytes]) -> None:
    """Each chain comes back, once, whatever is in it, and then the server answers as before."""
    heads = [shared.send(content) for content in contents if content]
    for head in heads:
        shared.wait(head)
    assert shared.error(T_READ, 0x7777, struct.pack("<IQI", 99, 0, 1)) == errno.EBADF
