"""A shared folder: messages between a driver's queue and a server, a real one and others that misbehave."""

from __future__ import annotations

import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.config import ShareConfig
from corral.errors import ConfigError, HostError
from corral.folder_server import FolderServer
from corral.guests import debian
from corral.irq import VirtioInterrupt
from corral.memory import GuestMemory
from corral.native import ffi, lib
from tests.support.virtio_driver import Queue, align

T_VERSION, T_ATTACH, T_WALK, T_OPEN, T_READ, T_FLUSH, T_MKDIR = 100, 104, 110, 12, 116, 108, 72
R_ERROR = 7
NOBODY = 0xFFFFFFFF  # no fid, no number of a user
EIO, EINVAL, EROFS = 5, 22, 30
ROOM = 4096


def message(kind: int, tag: int, body: bytes = b"") -> bytes:
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def string(text: bytes) -> bytes:
    return struct.pack("<H", len(text)) + text


class Driver:
    """Of a virtio-9p device over a server's socket."""

    def __init__(self, server_fd: int, read_only: bool = False) -> None:
        self.memory = GuestMemory(8 << 20)
        self.interrupt = VirtioInterrupt(None, 5)
        self.queue = Queue(self.memory, 0x1000, 128, event_idx=False)
        self.at = align(self.queue.end, 4096)
        self.p9 = lib.corral_p9_create(self.memory.native, self.interrupt.native)
        self.server_fd, self.read_only = server_fd, read_only
        self.answers: dict[int, bytes] = {}
        self.rooms: dict[int, int] = {}

    def start(self, **changed: int) -> int:
        self.queue.reset()
        setup = ffi.new("struct corral_virtq_setup *", self.queue.setup() | changed)
        features = 1 << 28
        fds = self.queue.kick_fd, self.server_fd
        return int(lib.corral_p9_start(self.p9, features, setup, *fds, self.read_only, ffi.NULL, 0))

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
                select.select([self.interrupt.fd], [], [], 0.2)
        return self.answers.pop(head)

    def ask(self, kind: int, tag: int, body: bytes = b"", **options: int) -> tuple[int, int, bytes]:
        """(type, tag, body) of the answer."""
        answer = self.wait(self.send(message(kind, tag, body), **options))
        size, kind, tag = struct.unpack_from("<IBH", answer)
        assert size == len(answer)
        return kind, tag, answer[7:]

    def error(self, kind: int, tag: int, body: bytes = b"", **options: int) -> int:
        kind, answered, body = self.ask(kind, tag, body, **options)
        assert (kind, answered) == (R_ERROR, tag)
        return int(struct.unpack("<I", body)[0])

    def close(self) -> None:
        lib.corral_p9_destroy(self.p9)
        self.queue.close()
        self.interrupt.close()
        self.memory.close()


def attach(driver: Driver, folder: Path) -> None:
    assert driver.start() == 0
    assert driver.ask(T_VERSION, 0xFFFF, struct.pack("<I", 65536) + string(b"9P2000.L"))[0] == T_VERSION + 1
    user = pwd.getpwuid(os.getuid()).pw_name.encode()
    who = struct.pack("<II", 1, NOBODY) + string(user) + string(bytes(folder)) + struct.pack("<I", NOBODY)
    assert driver.ask(T_ATTACH, 1, who)[0] == T_ATTACH + 1


@pytest.fixture(scope="session", autouse=True)
def server_installed() -> None:
    debian.require_installed(["bubblewrap", "diod"], "sharing folders")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Callable[[bool], Driver]]:
    """A driver that has attached to a folder with the file `hello` in it; fid 1 is the folder."""
    (tmp_path / "hello").write_text("hello from outside")
    undo: list[Callable[[], None]] = []

    def make(writable: bool) -> Driver:
        server = FolderServer(ShareConfig(str(tmp_path), writable=writable))
        driver = Driver(server.fd, read_only=not writable)
        undo.extend([server.close, driver.close])
        attach(driver, tmp_path)
        return driver

    yield make
    while undo:
        undo.pop()()


def test_a_file_is_read(shared: Callable[[bool], Driver]) -> None:
    driver = shared(False)
    assert driver.ask(T_WALK, 2, struct.pack("<IIH", 1, 2, 1) + string(b"hello"), pieces=5)[0] == T_WALK + 1
    assert driver.ask(T_OPEN, 3, struct.pack("<II", 2, 0))[0] == T_OPEN + 1
    kind, _, body = driver.ask(T_READ, 4, struct.pack("<IQI", 2, 0, 100))
    assert (kind, body) == (T_READ + 1, struct.pack("<I", 18) + b"hello from outside")
    assert lib.corral_p9_answered(driver.p9) == 5
    assert lib.corral_p9_refused(driver.p9) == 0


def test_writing_is_for_those_that_may(shared: Callable[[bool], Driver], tmp_path: Path) -> None:
    make = struct.pack("<I", 1) + string(b"new") + struct.pack("<II", 0o755, 0)
    assert shared(False).error(T_MKDIR, 2, make) == EROFS
    assert not (tmp_path / "new").exists()
    assert shared(True).ask(T_MKDIR, 2, make)[0] == T_MKDIR + 1
    assert (tmp_path / "new").is_dir()


# On fid 1, the folder; 2, its file `hello`; 3, the folder again, and free for an open.
CHANGES = {
    "lopen for writing": (12, struct.pack("<II", 2, os.O_WRONLY)),
    "lopen to read and write": (12, struct.pack("<II", 2, os.O_RDWR)),
    "lopen that truncates": (12, struct.pack("<II", 2, os.O_RDONLY | os.O_TRUNC)),
    "lopen that appends": (12, struct.pack("<II", 2, os.O_WRONLY | os.O_APPEND)),
    "lcreate": (14, struct.pack("<I", 3) + string(b"new") + struct.pack("<III", os.O_RDWR, 0o644, 0)),
    "lcreate of one that is there": (
        14,
        struct.pack("<I", 3) + string(b"hello") + struct.pack("<III", os.O_TRUNC, 0o644, 0),
    ),
    "symlink": (16, struct.pack("<I", 1) + string(b"new") + string(b"hello") + struct.pack("<I", 0)),
    "mknod": (18, struct.pack("<I", 1) + string(b"new") + struct.pack("<IIII", 0o10644, 0, 0, 0)),
    "rename": (20, struct.pack("<II", 2, 1) + string(b"new")),
    "setattr of the mode": (26, struct.pack("<IIIIIQQQQQ", 2, 1, 0o777, 0, 0, 0, 0, 0, 0, 0)),
    "setattr of the size": (26, struct.pack("<IIIIIQQQQQ", 2, 8, 0, 0, 0, 0, 0, 0, 0, 0)),
    "setattr of the times": (26, struct.pack("<IIIIIQQQQQ", 2, 0x1B0, 0, 0, 0, 0, 1, 0, 1, 0)),
    "xattrcreate": (32, struct.pack("<I", 2) + string(b"user.new") + struct.pack("<QI", 1, 0)),
    "link": (70, struct.pack("<II", 1, 2) + string(b"new")),
    "mkdir": (72, struct.pack("<I", 1) + string(b"new") + struct.pack("<II", 0o755, 0)),
    "renameat": (74, struct.pack("<I", 1) + string(b"hello") + struct.pack("<I", 1) + string(b"new")),
    "unlinkat": (76, struct.pack("<I", 1) + string(b"hello") + struct.pack("<I", 0)),
    "remove": (122, struct.pack("<I", 2)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_nothing_changes_a_folder_that_is_to_be_read(
    shared: Callable[[bool], Driver], tmp_path: Path, what: str
) -> None:
    driver = shared(False)
    for fid, names in ((2, [b"hello"]), (3, [])):
        walk = struct.pack("<IIH", 1, fid, len(names)) + b"".join(map(string, names))
        assert driver.ask(T_WALK, 2, walk)[0] == T_WALK + 1
    file = tmp_path / "hello"
    before = file.stat()
    kind, _, _ = driver.ask(CHANGES[what][0], 3, CHANGES[what][1])
    driver.ask(118, 4, struct.pack("<IQI", 2, 0, 3) + b"new")
    driver.ask(118, 4, struct.pack("<IQI", 3, 0, 3) + b"new")
    after = file.stat()
    assert [path.name for path in tmp_path.iterdir()] == ["hello"]
    assert file.read_text() == "hello from outside"
    changing = ("st_mode", "st_uid", "st_size", "st_mtime_ns", "st_nlink", "st_ctime_ns")
    assert [getattr(after, name) for name in changing] == [getattr(before, name) for name in changing]
    assert not os.listxattr(file)
    assert kind == R_ERROR


# The bits of NONBLOCK, DIRECT, LARGEFILE, DIRECTORY, NOFOLLOW, NOATIME and CLOEXEC.
FLAGS = (11, 14, 15, 16, 17, 18, 19)


WAYS_OUT: list[list[bytes]] = [
    [b"..", b"secret"],
    [b"../secret"],
    [b"link"],
    [b"folder", b"secret"],
    [b"folder/secret"],
    [b"sub", b"..", b"..", b"secret"],
    [b"sub/../../secret"],
    [b"absolute"],
    [b".."] * 20 + [b"proc", b"1", b"root", b"etc", b"hostname"],
]


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("names", WAYS_OUT)
def test_nobody_gets_out_of_the_folder(tmp_path: Path, names: list[bytes], writable: bool) -> None:
    """diod by itself goes along with most of these."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to("../secret")
    (folder / "folder").symlink_to("..")
    (folder / "absolute").symlink_to(tmp_path / "secret")
    server = FolderServer(ShareConfig(str(folder), writable=writable))
    driver = Driver(server.fd, read_only=not writable)
    attach(driver, folder)
    walked = driver.ask(T_WALK, 2, struct.pack("<IIH", 1, 2, len(names)) + b"".join(map(string, names)))
    driver.ask(T_OPEN, 3, struct.pack("<II", 2, os.O_RDWR if writable else os.O_RDONLY))
    kind, _, body = driver.ask(T_READ, 4, struct.pack("<IQI", 2, 0, 100))
    driver.ask(118, 5, struct.pack("<IQI", 2, 0, 7) + b"changed")
    driver.close()
    server.close()
    assert (tmp_path / "secret").read_text() == "secret"
    assert kind == R_ERROR, (walked, body)


def test_what_gets_to_the_server_of_a_folder_that_is_to_be_read() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    driver = Driver(ours.fileno(), read_only=True)
    assert driver.start() == 0
    contents = [message(kind, 1, struct.pack("<II", 1, 0) if kind == T_OPEN else b"") for kind in range(256)]
    contents += [message(T_OPEN, 1, struct.pack("<II", 1, 1 << bit)) for bit in range(32)]
    through = []
    for index, content in enumerate(contents):
        first = driver.send(content)
        second = driver.send(message(T_VERSION, 2))
        while (got := received(theirs)) != message(T_VERSION, 2):
            through.append(index)
            theirs.sendall(message(got[4] + 1, 1))
        theirs.sendall(message(T_VERSION + 1, 2))
        driver.wait(first), driver.wait(second)
    driver.close()
    ours.close()
    theirs.close()
    looks = [8, 12, 22, 24, 30, 40, 50, 54, 100, 104, 108, 110, 116, 120]
    assert through == [*looks, *(256 + bit for bit in FLAGS)]


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
    head = server.recv(7, socket.MSG_WAITALL)
    rest = struct.unpack_from("<I", head)[0] - 7
    return head + (server.recv(rest, socket.MSG_WAITALL) if rest else b"")


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
    assert (kind, ecode) == (R_ERROR, EINVAL)
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


def test_a_broken_queue(line: tuple[Driver, socket.socket]) -> None:
    driver, _ = line
    driver.queue.put(0xFFFF)
    driver.queue.show(kick=True)
    assert select.select([driver.interrupt.fd], [], [], 20)[0]
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
def test_any_messages_to_the_real_server(shared: Callable[[bool], Driver], contents: list[bytes]) -> None:
    """Each chain comes back, once, whatever is in it, also when the server has enough of it."""
    driver = shared(False)
    heads = [driver.send(content) for content in contents if content]
    ours, again = driver.server_fd, driver.send(message(T_READ, 0x7777, struct.pack("<IQI", 99, 0, 1)))
    for head in [*heads, again]:
        driver.wait(head)
    assert ours == driver.server_fd


def test_folders_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        ShareConfig(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="tag"):
        ShareConfig(str(tmp_path), tag="")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("corral.folder_server.SEARCHED", str(tmp_path))
    with pytest.raises(HostError, match="apt-get install bubblewrap"):
        FolderServer(ShareConfig(str(tmp_path)))
