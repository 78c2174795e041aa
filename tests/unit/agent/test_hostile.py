"""An agent that means harm: whatever it sends, there is one clear error in time, and nothing outside of what was asked
for."""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.agent import command
from corral.agent.connection import (
    DATA,
    DONE,
    ENDED,
    ENTRY,
    ERRORS,
    FAILED,
    HEADER,
    HELLO,
    HOLE,
    OUTPUT,
    ROOM,
    STARTED,
    AgentError,
    Connection,
    Refused,
)
from corral.agent.connection import END as OVER
from corral.agent.files import GuestFiles
from corral.errors import ConfigError, CorralError, GuestTimeout

GREETING = b"corral-agent" + struct.pack("<HH", 1, 0)


def frame(kind: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(len(payload), kind) + payload


def entry(name: bytes, mode: int = stat.S_IFREG | 0o644, size: int = 0, link: bytes = b"") -> bytes:
    return struct.pack("<IIIQqIIIHH", mode, 0, 0, size, 0, 0, 0, 0, len(name), len(link)) + name + link


class Agent:
    """Says what it is told to whoever connects, and leaves."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.says = b""
        self.hello = frame(HELLO, GREETING)
        self.answer = b"OK 1\n"
        self.stays = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            with one:
                one.recv(64)
                try:
                    one.sendall(self.answer + self.hello + self.says)
                    if self.stays:
                        self._over.wait(5)
                    else:
                        one.shutdown(socket.SHUT_WR)
                        while one.recv(1 << 16):
                            pass
                except OSError:
                    pass

    def connect(self) -> Connection:
        return Connection(self.path, time.monotonic() + 0.3)

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "agent")
    yield agent
    agent.close()


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        (frame(HELLO, b"corral-agent" + struct.pack("<HH", 2, 0)), "version 2 of the protocol, this Corral 1"),
        (frame(HELLO, b"other-agent!" + struct.pack("<HH", 1, 0)), "not Corral's agent"),
        (frame(HELLO, b"corral-agent"), "not Corral's agent"),
        (frame(DONE, GREETING), "not Corral's agent"),
        (HEADER.pack(1 << 31, HELLO), "too long"),
        (b"SSH-2.0-dropbear\r\n", "too long"),
        (b"", "has gone"),
        (b"\x10", "has gone"),
    ],
)
def test_what_does_not_greet_as_an_agent(agent: Agent, hello: bytes, said: str) -> None:
    agent.hello = hello
    with pytest.raises(AgentError, match=said):
        agent.connect()


def test_nobody_answers(agent: Agent) -> None:
    agent.answer = agent.hello = b""
    with pytest.raises(GuestTimeout, match="no agent"):
        agent.connect()
    agent.stays = True
    with pytest.raises(GuestTimeout, match="does not answer"):
        agent.connect()


def test_a_guest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="not running"):
        Connection(str(tmp_path / "nothing"), time.monotonic() + 5)


def test_an_agent_that_says_no_has_its_words_made_printable(agent: Agent) -> None:
    agent.says = frame(FAILED, struct.pack("<I", 2) + b"\x1b[2Jopen it")
    with pytest.raises(Refused, match=r"^\\x1b\[2Jopen it: No such file") as refused:
        GuestFiles(agent.connect).read("/x")
    assert refused.value.errno == 2


# Files.


def test_more_than_it_may_send(agent: Agent) -> None:
    agent.says = frame(DONE) + frame(DATA, bytes(1000)) * 3
    with pytest.raises(AgentError, match="more than 2500 bytes"):
        GuestFiles(agent.connect).read("/x", most=2500)


@pytest.mark.parametrize(
    "name",
    [b"../out", b"a/../../out", b"/out", b"..", b".", b"a//b", b"a/", b"ln/out", b"sub/ln2/out", b"x\0y"],
)
def test_a_name_that_leads_out_of_the_tree(agent: Agent, tmp_path: Path, name: bytes) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    folder = stat.S_IFDIR | 0o755
    agent.says = frame(DONE) + frame(ENTRY, entry(b"", folder)) + frame(ENTRY, entry(b"sub", folder))
    agent.says += frame(ENTRY, entry(b"ln", stat.S_IFLNK | 0o777, link=os.fsencode(outside)))
    agent.says += frame(ENTRY, entry(b"sub/ln2", stat.S_IFLNK | 0o777, link=os.fsencode(outside)))
    agent.says += frame(ENTRY, entry(name, size=4)) + frame(DATA, b"evil") + frame(OVER)
    with pytest.raises(CorralError):
        GuestFiles(agent.connect).download("/x", target)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", "outside", "target"]


def test_a_file_in_the_place_of_a_link_is_made_anew(agent: Agent, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    agent.says = frame(DONE) + frame(ENTRY, entry(b"", stat.S_IFDIR | 0o755))
    agent.says += frame(ENTRY, entry(b"f", stat.S_IFLNK | 0o777, link=os.fsencode(victim)))
    agent.says += frame(ENTRY, entry(b"f", size=4)) + frame(DATA, b"evil") + frame(OVER)
    GuestFiles(agent.connect).download("/x", tmp_path / "target")
    assert victim.read_text() == "mine"
    assert (tmp_path / "target" / "f").read_text() == "evil"


def test_set_id_bits_and_devices_stay_away(agent: Agent, tmp_path: Path) -> None:
    agent.says = frame(DONE) + frame(ENTRY, entry(b"", stat.S_IFDIR | 0o7777))
    agent.says += frame(ENTRY, entry(b"suid", stat.S_IFREG | 0o6755)) + frame(
        ENTRY, entry(b"dev", stat.S_IFCHR | 0o666)
    )
    agent.says += frame(ENTRY, entry(b"fifo", stat.S_IFIFO | 0o666)) + frame(OVER)
    GuestFiles(agent.connect).download("/x", tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["suid"]
    assert stat.S_IMODE((tmp_path / "target" / "suid").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o777


@pytest.mark.parametrize(
    "says",
    [
        frame(ENTRY, entry(b"", size=3)) + frame(DATA, b"four"),
        frame(DATA, b"of no file"),
        frame(ENTRY, entry(b"")[:20]),
        frame(ENTRY, entry(b"", size=1 << 63)),
        frame(ENTRY, entry(b"name") + b"more"),
        frame(STARTED, b""),
        frame(ENTRY, entry(b"", size=3)),
    ],
)
def test_a_tree_that_is_none(agent: Agent, tmp_path: Path, says: bytes) -> None:
    agent.says = frame(DONE) + says
    with pytest.raises(AgentError):
        GuestFiles(agent.connect).download("/x", tmp_path / "target")


def test_a_hole_is_no_longer_than_its_file(agent: Agent, tmp_path: Path) -> None:
    agent.says = frame(DONE) + frame(ENTRY, entry(b"", size=3)) + frame(HOLE, b"\xff" * 8) + frame(OVER)
    assert GuestFiles(agent.connect).download("/x", tmp_path / "target") == 3
    assert (tmp_path / "target").read_bytes() == bytes(3)


# Commands.


def run(agent: Agent, says: bytes) -> tuple[command.End, bytes]:
    agent.says = frame(STARTED, bytes(4)) + says
    output = bytearray()
    with agent.connect() as connection:
        one = command.RunningCommand(connection, command.wanted("x"), lambda stream, data: output.extend(data))
        return one.wait(time.monotonic() + 5), bytes(output)


def test_what_comes_after_the_end_is_not_taken(agent: Agent) -> None:
    end, output = run(agent, frame(OUTPUT, b"a") + frame(ENDED, struct.pack("<II", 0, 3)) + frame(ERRORS, b"b"))
    assert (end.status, output) == (3, b"a")


@pytest.mark.parametrize(
    ("how", "number", "status"), [(0, 0xFFFFFFFF, 255), (1, 9, -9), (1, 0xFFFFFFFF, -127), (77, 0, 0), (2, 9, -9)]
)
def test_a_status_is_one(agent: Agent, how: int, number: int, status: int) -> None:
    assert run(agent, frame(ENDED, struct.pack("<II", how, number)))[0].status == status


@pytest.mark.parametrize("says", [b"", frame(ENTRY), frame(ENDED, b"x"), frame(ROOM, b"x"), frame(FAILED, b"")])
def test_words_of_a_command_that_mean_nothing(agent: Agent, says: bytes) -> None:
    with pytest.raises((AgentError, Refused)):
        run(agent, says)


def test_room_that_is_too_much_sends_no_more_than_there_is(agent: Agent) -> None:
    agent.says = frame(STARTED, bytes(4)) + frame(ROOM, b"\xff" * 4) * 3 + frame(ENDED, bytes(8))
    with agent.connect() as connection:
        one = command.RunningCommand(connection, command.wanted("cat"), lambda stream, data: None)
        one.give(bytes(1 << 20))
        assert one.wait(time.monotonic() + 5).status == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 32), st.integers(0, 12))
def test_noise_ends_with_an_error_of_ours_or_none(agent: Agent, tmp_path: Path, seed: int, frames: int) -> None:
    noise = random.Random(seed)
    kinds = [DONE, FAILED, STARTED, OUTPUT, ERRORS, ROOM, ENDED, DATA, HOLE, ENTRY, OVER, 0, 255]
    bodies: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: noise.randbytes(noise.randrange(100)),
        lambda: entry(noise.choice([b"", b"a", b"a/b", b"../x"]), noise.choice([0o100644, 0o40755, 0o120777]), 9, b"l"),
    ]
    agent.says = frame(DONE) * noise.randrange(2)
    agent.says += b"".join(frame(noise.choice(kinds), noise.choice(bodies)()) for _ in range(frames))
    agent.says += noise.randbytes(noise.randrange(20))
    files = GuestFiles(agent.connect)
    calls: list[Callable[[], object]] = [
        lambda: files.read("/x"),
        lambda: files.list("/x"),
        lambda: files.stat("/x"),
        lambda: files.write("/x", bytes(100_000)),
        lambda: files.download("/x", tmp_path / f"t{seed}"),
        lambda: files.upload(__file__, "/x"),
        lambda: run(agent, agent.says),
    ]
    try:
        noise.choice(calls)()
    except CorralError:
        pass
    assert not (tmp_path / "x").exists()


def test_a_command_that_cannot_be() -> None:
    for words in ([], "a\0b", ["a", "b\0"], "x" * 70_000):
        with pytest.raises(ConfigError):
            command.wanted(words)
    with pytest.raises(ConfigError, match="no signal"):
        command.signal_number("NOSUCH")
    assert command.signal_number("term") == command.signal_number("15") == 15
